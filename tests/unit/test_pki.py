"""The local authority: made once, renewed in time, mended when a run was killed in between."""

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from twinmail.local import pki

NOW = datetime(2026, 11, 23, tzinfo=UTC)
NAMES = ("primary.example.org",)


def files(*folders: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for folder in folders for path in sorted(folder.iterdir())}


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return tmp_path / "tls"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "primary"


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_nothing_changes_the_second_time(ca: Path, target: Path) -> None:
    pki.ensure(ca, target, NAMES, NOW)
    before = files(ca, target)
    pki.ensure(ca, target, NAMES, NOW + timedelta(days=300))
    assert files(ca, target) == before


def test_modes(ca: Path, target: Path) -> None:
    pki.ensure(ca, target, NAMES, NOW)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for folder in (ca, target) for path in folder.iterdir()
    }
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "cert.pem": 0o644, "key.pem": 0o600}


def test_names(ca: Path, target: Path) -> None:
    pki.ensure(ca, target, NAMES, NOW)
    names = (
        certificate(target / "cert.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    )
    assert names.get_values_for_type(x509.DNSName) == ["primary.example.org", "localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("days", "renewed"), [(0, False), (366, False), (368, True), (500, True), (4000, True)]
)
def test_renewal(ca: Path, target: Path, days: int, renewed: bool) -> None:
    pki.ensure(ca, target, NAMES, NOW)
    before = certificate(target / "cert.pem")
    later = NOW + timedelta(days=days)
    pki.ensure(ca, target, NAMES, later)
    after = certificate(target / "cert.pem")
    assert (after != before) == renewed
    assert after.not_valid_after_utc > later + timedelta(days=29)
    assert certificate(ca / "ca.pem").not_valid_after_utc > after.not_valid_after_utc


def test_a_clock_that_was_wrong(ca: Path, target: Path) -> None:
    pki.ensure(ca, target, NAMES, NOW + timedelta(days=100))
    pki.ensure(ca, target, NAMES, NOW)
    assert certificate(target / "cert.pem").not_valid_before_utc <= NOW


def test_other_names(ca: Path, target: Path) -> None:
    pki.ensure(ca, target, NAMES, NOW)
    authority = (ca / "ca.pem").read_bytes()
    pki.ensure(ca, target, ("backup.example.org",), NOW)
    names = (
        certificate(target / "cert.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    )
    assert "backup.example.org" in names.get_values_for_type(x509.DNSName)
    assert (ca / "ca.pem").read_bytes() == authority


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem", "ca-key.pem"])
@pytest.mark.parametrize("damage", ["missing", "empty", "another's"])
def test_parts_that_do_not_belong_together_are_made_again(
    tmp_path: Path, ca: Path, target: Path, name: str, damage: str
) -> None:
    pki.ensure(ca, target, NAMES)
    path = (ca if name.startswith("ca") else target) / name
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        pki.ensure(tmp_path / "other-ca", tmp_path / "other", NAMES)
        path.write_bytes((tmp_path / ("other-ca" if name.startswith("ca") else "other") / name).read_bytes())
    pki.ensure(ca, target, NAMES)
    assert handshake(ca / "ca.pem", target, "localhost") in ("TLSv1.3", "TLSv1.2")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "primary.example.org"])
def test_clients_accept_it(ca: Path, target: Path, name: str) -> None:
    pki.ensure(ca, target, NAMES)
    assert handshake(ca / "ca.pem", target, name) == "TLSv1.3"


def test_clients_refuse_another_name_and_another_authority(tmp_path: Path, ca: Path, target: Path) -> None:
    pki.ensure(ca, target, NAMES)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(ca / "ca.pem", target, "example.com")
    pki.ensure(tmp_path / "other-ca", tmp_path / "other", NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "other-ca" / "ca.pem", target, "localhost")


def test_missing_authority(tmp_path: Path) -> None:
    with pytest.raises(
        pki.CertificateError, match=r"ca\.pem: expected the local authority's certificate: .*run \./inv up"
    ):
        pki.client_context(tmp_path / "ca.pem")


def handshake(ca: Path, target: Path, name: str) -> str | None:
    """Version of TLS between a strict client for *name* and a server with the pair in *target*."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(target / "cert.pem", target / "key.pem")
    client = pki.client_context(ca)
    # What Python 3.13 asks for by default.
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as connection:
                connection.recv(1)
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as connection:
            return connection.version()
    finally:
        ours.close()
        thread.join()
