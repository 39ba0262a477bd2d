"""No image holds anything secret: every blob that was built is read to its end."""

import gzip
import io
import json
import tarfile
from functools import cache
from pathlib import Path

import pytest

from tests.image.conftest import IMAGES
from tests.secret_search import Secrets, kept_in, values
from twinmail.tasks.config import PROJECT

BUILT = ("base", "dovecot", "syncer", "roundcube", "localstack", "certbot")
KEY = "AKIA" + "Q3EGYU7TZ2BXW4KD"
PEM = "-----BEGIN EC PRIVATE KEY-----\n" + "MHcCAQEEIBKR" * 5 + "\n-----END EC PRIVATE KEY-----\n"


_PACKAGES = "usr/lib/python3/dist-packages"
# Keys that their authors have published, for tests and stand-ins; they open nothing.
PUBLISHED = {
    "dovecot": {"usr/lib/dovecot/libdovecot.so.0.0.0"},
    "localstack": {
        f"{_PACKAGES}/aiosmtpd/tests/certs/server.key",
        f"{_PACKAGES}/aiosmtpd/tests/certs/server_alt.key",
        f"{_PACKAGES}/localstack/aws/__pycache__/accounts.cpython-313.pyc",
        f"{_PACKAGES}/localstack/aws/accounts.py",
        f"{_PACKAGES}/moto/moto_proxy/ca.key",
        f"{_PACKAGES}/moto/moto_proxy/cert.key",
    },
}


@cache
def known() -> Secrets:
    """What this checkout keeps secret: production's, and those of the system that runs or ran here."""
    found = [*kept_in(PROJECT / ".twinmail" / "secrets")]
    local = PROJECT / ".twinmail" / "local"
    for pattern in ("access-keys/**/credentials", "**/relay-secret", "tls/ca-key.pem", "**/smtp.json"):
        found += [one for path in local.glob(pattern) for one in values(path.read_bytes())]
    return Secrets(found)


_searched: dict[str, dict[str, list[str]]] = {}


def once(blob: Path) -> dict[str, list[str]]:
    """What *blob* holds that is secret here: images share layers."""
    if blob.name not in _searched:
        _searched[blob.name] = search(known(), blob)
    return _searched[blob.name]


def search(secrets: Secrets, blob: Path) -> dict[str, list[str]]:
    """What *blob* holds, by path where it is a layer."""
    with blob.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not packed:
            hits = secrets.found_in(stream)
            return {"": hits} if hits else {}
        found = {}
        with tarfile.open(fileobj=gzip.GzipFile(fileobj=stream), mode="r|") as archive:
            for member in archive:
                if content := archive.extractfile(member) if member.isfile() else None:
                    found[member.name] = secrets.found_in(content)
                assert not secrets.found(f"{member.name}\0{member.linkname}".encode()), member.name
    return {path: hits for path, hits in found.items() if hits}


@pytest.mark.parametrize("image", BUILT)
def test_no_blob_holds_a_secret(image: str) -> None:
    blobs = sorted((IMAGES / image / "blobs" / "sha256").iterdir())
    assert blobs
    found = {path: hits for blob in blobs for path, hits in once(blob).items()}
    assert {path: hits for path, hits in found.items() if path not in PUBLISHED.get(image, ())} == {}


@pytest.mark.parametrize("secret", [KEY, PEM, f"aws_secret_access_key = {'x1/+' * 10}", "hush-hush-hush"])
def test_a_planted_one_is_found(secret: str, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    with tarfile.open(layer, mode="w:gz") as archive:
        member = tarfile.TarInfo("etc/file")
        # Across the end of what is read at once.
        data = bytes(4 * 1024 * 1024 - 8) + secret.encode()
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    found = search(Secrets([b"hush-hush-hush"]), layer)
    assert [len(hits) for hits in found.values()] == [1] and set(found) == {"etc/file"}


def test_values_of_every_form_of_file(tmp_path: Path) -> None:
    for name, text in {
        "a/credentials": f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {'s' * 40}\n",
        "b.json": json.dumps({"user": KEY, "password": "p" * 20, "n": {"TunnelSecret": "t" * 20}}),
        "c.pem": PEM,
        "d": "d" * 32,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert set(kept_in(tmp_path)) == {b"s" * 40, b"p" * 20, b"t" * 20, b"MHcCAQEEIBKR" * 5, b"d" * 32}
