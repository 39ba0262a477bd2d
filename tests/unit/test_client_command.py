"""``./inv client-profile`` as it is typed."""

import json
import plistlib
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.unit.test_client_profile import authority, pem, private

PROJECT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT / "tasks.py"), "client-profile", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_writes_a_profile_and_a_sheet(tmp_path: Path) -> None:
    result = run("anna", "--output", str(tmp_path), "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["mailbox"], told["address"], told["signed"]) == ("anna", "anna@pfeiffer.rocks", False)
    accounts = plistlib.loads(Path(told["profile"]).read_bytes())["PayloadContent"]
    assert [one["IncomingMailServerHostName"] for one in accounts] == [
        "primary.pfeiffer.rocks",
        "backup.pfeiffer.rocks",
    ]
    assert "<svg" in Path(told["sheet"]).read_text()


def test_it_signs_with_a_key(tmp_path: Path) -> None:
    key, certificate = authority()
    (tmp_path / "cert.pem").write_bytes(pem(certificate))
    (tmp_path / "key.pem").write_bytes(private(key))
    files = ["--certificate", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "key.pem")]
    result = run("rene@example.net", "--output", str(tmp_path), "--smtp-user", "AKIAEXAMPLE", *files)
    assert result.returncode == 0, result.stderr
    signed = (tmp_path / "rene.mobileconfig").read_bytes()
    assert pkcs7.load_der_pkcs7_certificates(signed) == [certificate]
    assert b"<string>rene@example.net</string>" in signed
    assert b"<string>AKIAEXAMPLE</string>" in signed


def test_dns_prints_a_zone_and_writes_nothing(tmp_path: Path) -> None:
    result = run("--dns", "--output", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "_imaps._tcp.pfeiffer.rocks." in result.stdout
    assert list(tmp_path.iterdir()) == []
    records = json.loads(run("--dns", "--json").stdout)["records"]
    assert {one["type"] for one in records} == {"SRV", "CNAME", "TXT"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "expected one user, got 0"),
        (["anna", "rene"], "expected one user, got 2"),
        (["nobody"], "mailboxes: rene, anna"),
        (["anna", "--output", "/nowhere"], "/nowhere is not a folder"),
        (["anna", "--key", "k.pem"], "give both to sign, or none"),
        (["anna", "--key", "/none.pem", "--certificate", "/none.pem"], "cannot be read: No such file"),
    ],
)
def test_bad_input_gets_one_line(words: list[str], expected: str) -> None:
    result = run(*words)
    assert result.returncode == 1
    assert expected in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
