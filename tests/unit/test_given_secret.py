"""Secrets that people bring are looked at before they are kept, and never shown."""

import io
import json
import os
import select
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.e2e.runbook import assert_shown
from tests.golden.test_client_profile import CONFIG
from twinmail.access_key import NewKey
from twinmail.certificate import pair
from twinmail.deploy import given_secret, server_files, server_rotation
from twinmail.deploy.given_secret import NotASecret
from twinmail.secret_store import SecretStore
from twinmail.tasks.config import PROJECT

PAIR = pair.placeholder(["primary.example.org"], datetime.now(UTC))
OTHER = pair.placeholder(["primary.example.org"], datetime.now(UTC))
PLAIN = serialization.NoEncryption()
SSH = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, PLAIN
)
LOCKED = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
)
AWS = b"[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = HUSH\n"
TUNNEL = json.dumps({"AccountTag": "a", "TunnelSecret": "HUSH", "TunnelID": "t", "Endpoint": ""}).encode()


@pytest.mark.parametrize(
    ("name", "data", "kept"),
    [
        ("certificate/backup/credentials", AWS, {"certificate/backup/credentials": AWS}),
        (
            "certificate/backup/credentials",
            b"# mine\r\n" + AWS.replace(b"\n", b"\r\n") + b"[other]\nregion = x\n",
            {"certificate/backup/credentials": AWS},
        ),
        ("cloudflare/primary", TUNNEL, {"cloudflare/primary": TUNNEL}),
        (
            "tls/primary/key.pem",
            PAIR.key + PAIR.chain + OTHER.chain,
            {"tls/primary/key.pem": PAIR.key, "tls/primary/cert.pem": PAIR.chain + OTHER.chain},
        ),
        ("ssh/backup", SSH, {"ssh/backup": SSH}),
        ("import/old-account", "grün\n".encode(), {"import/old-account": "grün".encode()}),
    ],
)
def test_what_is_good_is_kept(name: str, data: bytes, kept: dict[str, bytes]) -> None:
    assert {one.name: one.data for one in given_secret.check(CONFIG, name, data)} == kept


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("certificate/backup/credentials", b"", "an AWS credentials file"),
        ("certificate/backup/credentials", b"\xff", "an AWS credentials file"),
        ("certificate/backup/credentials", AWS.replace(b"AKIA", b"ASIA"), "an AWS credentials file"),
        ("certificate/backup/credentials", AWS + b"aws_session_token = x\n", "an AWS credentials file"),
        ("cloudflare/primary", b'"HUSH"', "the JSON that cloudflared tunnel create wrote"),
        ("cloudflare/primary", b'{"TunnelSecret": "HUSH"}', "the JSON that cloudflared"),
        ("tls/primary/key.pem", PAIR.key, "a certificate with its chain"),
        ("tls/primary/key.pem", PAIR.chain, "a certificate with its chain"),
        ("tls/primary/key.pem", PAIR.chain + OTHER.key, "a certificate with its chain"),
        ("tls/primary/key.pem", PAIR.chain + LOCKED, "a certificate with its chain"),
        ("tls/primary/key.pem", PAIR.chain + b"-----BEGIN HUSH", "a certificate with its chain"),
        ("ssh/backup", b"HUSH", "a private key of OpenSSH"),
        ("import/old", b"HUSH\nHUSH", "the password of an older account"),
        ("import/old", b"\n", "the password of an older account"),
    ],
)
def test_what_is_damaged_is_named_and_not_quoted(name: str, data: bytes, expected: str) -> None:
    with pytest.raises(NotASecret) as caught:
        given_secret.check(CONFIG, name, data)
    text = str(caught.value)
    assert text.startswith(f"secret {name}: expected {expected}") and text.endswith("; nothing was kept")
    assert "HUSH" not in text and "PRIVATE" not in text
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("certificate/third/credentials", "no server 'third'; expected one of primary, backup"),
        ("syncer/backup/credentials", r"is not brought by hand; \./inv secrets says how it is made"),
        ("tls/primary/../key.pem", "is not brought by hand"),
        ("../../etc/passwd", "is not brought by hand"),
    ],
)
def test_names_are_checked_first(name: str, error: str) -> None:
    with pytest.raises(NotASecret, match=error):
        given_secret.check(CONFIG, name, b"x")


def test_command_keeps_it_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from twinmail.tasks import secrets

    class Piped(io.StringIO):
        buffer = io.BytesIO(AWS)

    store = SecretStore(tmp_path / "secrets")
    config = tmp_path / "twinmail.toml"
    config.write_text((Path(__file__).parents[2] / "twinmail.toml").read_text())
    monkeypatch.setattr(secrets, "_at", lambda root: store)
    monkeypatch.setattr("sys.stdin", Piped())
    secrets.set_.body(None, "certificate/backup/credentials", config=str(config))
    assert store.get("certificate/backup/credentials") == AWS
    assert store.path("certificate/backup/credentials").stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr()
    assert "HUSH" not in said.out + said.err and "certificate/backup/credentials" in said.out


def test_a_key_is_asked_for_as_the_runbook_shows_it(tmp_path: Path) -> None:
    name, page = "certificate/primary/credentials", "first-day.md"
    (tmp_path / "twinmail.toml").write_bytes((PROJECT / "twinmail.toml").read_bytes())
    program = (
        "import sys; from pathlib import Path; from twinmail.tasks import config; "
        "config.PROJECT = Path(sys.argv[1]); from twinmail.tasks import secrets; "
        "secrets.set_.body(None, sys.argv[2], config=str(config.PROJECT / 'twinmail.toml'))"
    )
    keyboard, screen = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), name],
        env={"PYTHONPATH": str(PROJECT / "src"), "PATH": os.defpath},
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
    )
    os.close(screen)
    said = b""
    for asked, typed in ((b"ID: ", b"AKIAEXAMPLE\n"), (b"key: ", b"HUSH\n"), (name.encode(), b"")):
        while not said.endswith(asked):
            assert select.select([keyboard], [], [], 60)[0], said
            said += os.read(keyboard, 1)
        os.write(keyboard, typed)
    assert process.wait(60) == 0
    os.close(keyboard)
    assert b"HUSH" not in said
    assert_shown(page, f"./inv secrets set {name}", said.decode().splitlines())
    kept = SecretStore(tmp_path / ".twinmail" / "secrets").get(name)
    assert kept is not None and NewKey.from_file(kept) == NewKey("AKIAEXAMPLE", "HUSH")


def test_new_keys_of_production_are_in_the_store_and_reach_their_containers(tmp_path: Path) -> None:
    store = SecretStore(tmp_path)
    put: Any = store.put
    put("syncer/backup/credentials", AWS)
    put("relay/backup/credentials", AWS)
    put("smtp/webmail", b'{"user": "AKIA", "password": "x"}')

    def revisions() -> dict[str, str]:
        known = server_files.read_secrets(store, CONFIG, "backup")
        files = server_files.plan(CONFIG, "", "backup", known)
        return {group: server_files.revision(files, group) for group in ("php", "certbot", "dovecot", "web")}

    before = revisions()
    for what, group in ((server_rotation.DES_KEY, "php"), (server_rotation.TLS, "certbot")):
        for _ in range(2):
            done = {one.server: one for one in server_rotation.rotate(CONFIG, store, what)}
            assert done["backup"].deploy == "./inv deploy backup"
            after = revisions()
            # Another container is made anew each time, and no other.
            assert {one for one in after if after[one] != before[one]} == {group}
            before = after
    key = store.get("webmail/backup/des-key") or b""
    assert len(key) == 32 and store.path("webmail/backup/des-key").stat().st_mode & 0o777 == 0o600
    assert store.get("webmail/primary/des-key") is None
