"""The files of a production server: who reads what, what is secret, and what is missing is said."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.golden.test_client_profile import CONFIG
from twinmail import server_volume
from twinmail.deploy import server_files
from twinmail.deploy.server_files import NoSecrets, ServerPorts, ServerSecrets, Surroundings
from twinmail.secret_store import SecretStore
from twinmail.webmail import Sender

SECRETS = ServerSecrets(
    syncer=b"[default]\naws_secret_access_key = SYNCER\n",
    relay="RELAYPASSWORD",
    relay_credentials=b"[default]\naws_secret_access_key = RELAYKEY\n",
    sender=Sender("AKIA", "SENDERPASSWORD"),
)
WORDS = (b"SYNCER", b"RELAYPASSWORD", b"RELAYKEY", b"SENDERPASSWORD")


def test_each_container_reads_its_own_group() -> None:
    files = server_files.plan(CONFIG, "x = 1\n", "backup", SECRETS)
    names = {one.path for one in files}
    assert {
        "config/twinmail.toml",
        "dovecot/local.conf",
        "syncer/credentials",
        "relay/credentials",
        "relay/relay-secret",
        "php/webmail.json",
        "php/identities.json",
        "php/smtp.json",
        "web/web/listen.conf",
        "web/web/files/.well-known/mta-sts.txt",
    } <= names
    assert {one.group for one in server_files.plan(CONFIG, "", "primary", SECRETS)} == {
        "config",
        "dovecot",
        "syncer",
    }


def test_what_holds_a_secret_is_secret_and_shows_it_to_nobody() -> None:
    for one in server_files.plan(CONFIG, "x = 1\n", "backup", SECRETS):
        assert one.secret or not any(word in one.data for word in WORDS), one.path
    assert not any(word.decode() in repr(SECRETS) for word in WORDS)


def test_a_secret_is_read_by_its_own_containers_only() -> None:
    readers = {
        word: {one.group for one in server_files.plan(CONFIG, "", "backup", SECRETS) if word in one.data}
        for word in WORDS
    }
    assert list(readers.values()) == [{"syncer"}, {"dovecot", "relay"}, {"relay"}, {"php"}]


def test_servers_listen_on_all_addresses() -> None:
    conf = {one.path: one.data.decode() for one in server_files.plan(CONFIG, "", "backup", SECRETS)}
    text = conf["dovecot/local.conf"]
    assert "listen = * ::\n" in text
    assert "port = 993\n" in text
    # Guessing is slowed down by address, which is the client's own here.
    assert "anvil" not in text
    assert "listen [::]:443 ssl;" in conf["web/web/listen.conf"]


def test_only_what_a_container_reads_at_its_start_changes_its_revision() -> None:
    before = server_files.plan(CONFIG, "x = 1\n", "backup", SECRETS)
    after = server_files.plan(CONFIG, "x = 2\n", "backup", SECRETS)
    other = server_files.plan(CONFIG, "x = 1\n", "backup", replace(SECRETS, relay="ANOTHER"))
    groups = ("config", "dovecot", "relay", "syncer", "php", "web")
    changed = [
        one for one in groups if server_files.revision(before, one) != server_files.revision(other, one)
    ]
    assert all(server_files.revision(before, one) == server_files.revision(after, one) for one in groups)
    assert changed == ["dovecot", "relay"]


def test_the_environment_names_places_and_no_secret() -> None:
    assert server_files.aws_environment(CONFIG) == {
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/etc/twinmail-secrets/credentials",
    }
    local = server_files.aws_environment(CONFIG, Surroundings(endpoint="http://127.0.0.1:4566"))
    assert local["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"


def test_missing_secrets_are_named_with_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(NoSecrets) as caught:
        server_files.read_secrets(SecretStore(tmp_path / "secrets"), CONFIG, "backup")
    assert str(caught.value).splitlines() == [
        f"secret {name}: not there; make it with: ./inv deploy cloud"
        for name in ("syncer/backup/credentials", "relay/backup/credentials", "smtp/webmail")
    ]


def test_secrets_come_from_the_store_and_the_password_is_made_once(tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "secrets")
    store.put("syncer/backup/credentials", SECRETS.syncer)
    store.put("relay/backup/credentials", SECRETS.relay_credentials)
    store.put("smtp/webmail", json.dumps({"user": "AKIA", "password": "SENDERPASSWORD"}).encode())
    assert server_files.read_secrets(store, CONFIG, "backup").relay == ""
    assert server_files.make_secrets(store, CONFIG, "backup") == ("relay/backup/password",)
    assert server_files.make_secrets(store, CONFIG, "backup") == ()
    found = server_files.read_secrets(store, CONFIG, "backup")
    assert len(found.relay) == 48
    assert replace(found, relay=SECRETS.relay) == SECRETS
    store.put("smtp/webmail", b"{}")
    with pytest.raises(NoSecrets, match="secret smtp/webmail: expected JSON with user and password"):
        server_files.read_secrets(store, CONFIG, "backup")


def test_other_ports_and_authorities_for_a_rehearsal() -> None:
    ports = ServerPorts(imaps=1, web=2)
    files = server_files.plan(CONFIG, "", "backup", SECRETS, ports, Surroundings(authorities=b"PEM"))
    data = {one.path: one.data.decode() for one in files}
    assert data["php/authorities.pem"] == data["config/authorities.pem"] == "PEM"
    assert '"ca": "/etc/twinmail/authorities.pem"' in data["php/webmail.json"]


def test_a_new_volume_is_made_ready_once(tmp_path: Path) -> None:
    for _ in range(2):
        assert server_volume.main([str(tmp_path)]) == 0
    assert (tmp_path / server_volume.FOLDER).stat().st_mode & 0o777 == 0o700


def test_a_volume_that_is_not_ours_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(server_volume.NotPrepared, match=r"No such file or directory; user .* must own"):
        server_volume.prepare(tmp_path / "missing")
    if os.geteuid() == 0:
        (tmp_path / server_volume.FOLDER).mkdir()
        os.chown(tmp_path / server_volume.FOLDER, 1234, 1234)
        with pytest.raises(server_volume.NotPrepared, match="it is user 1234's; chown -R 0:0"):
            server_volume.prepare(tmp_path)
