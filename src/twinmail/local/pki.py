"""The certification authority of one local system, and the certificates of its servers.

Everything is made when it is missing, when it would soon expire, or when its parts do not belong together
(a run may have been killed between two files), and otherwise left alone.
"""

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinmail import durable_file
from twinmail.errors import PermanentError

CA = "ca.pem"
CA_KEY = "ca-key.pem"
CERTIFICATE = "cert.pem"
KEY = "key.pem"

CA_LIFE = timedelta(days=3650)
CA_RENEW_BEFORE = timedelta(days=730)  # a certificate must not outlive its issuer
LIFE = timedelta(days=397)  # the most that mail clients accept (CA/Browser Forum baseline, until 2026)
RENEW_BEFORE = timedelta(days=30)
_SKEW = timedelta(hours=1)

# Every server is reached by these on the machine it runs on.
LOCAL_NAMES = ("localhost",)
LOCAL_ADDRESSES = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


class CertificateError(PermanentError):
    """A certificate cannot be used."""


def ensure(
    folder: Path, target: Path, names: Sequence[str], now: datetime | None = None, anew: bool = False
) -> None:
    """Make sure that *target* holds a certificate for *names* by the authority in *folder*.

    Args:
        folder: of the authority: ``ca.pem``, to be shown to clients, and its key.
        target: of the server: ``cert.pem`` and ``key.pem``.
        names: DNS names beside localhost and its addresses.
        now: the time, aware; the clock's if absent.
        anew: whether a new key and certificate take the place of good ones.

    Raises:
        NotWritten: transient.
    """
    now = now or datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    target.mkdir(parents=True, exist_ok=True, mode=0o755)
    ca, ca_key = _authority(folder, now)
    pair = _load(target / CERTIFICATE, target / KEY)
    if anew or pair is None or not _serves(pair[0], ca, names, now):
        certificate, key = _issue(ca, ca_key, names, now)
        _save(target / CERTIFICATE, target / KEY, certificate, key)


def names(certificate: Path) -> tuple[str, ...]:
    """The DNS names of *certificate*, but for those that all have; none if it cannot be read."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        have = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return ()
    return tuple(one for one in have.get_values_for_type(x509.DNSName) if one not in LOCAL_NAMES)


def client_context(ca: Path) -> ssl.SSLContext:
    """TLS for a client that trusts the authority *ca* alone, and checks names.

    Raises:
        CertificateError: there is no such file, or no certificate in it.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"{ca}: expected the local authority's certificate: {error}; run ./inv up"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _authority(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    pair = _load(folder / CA, folder / CA_KEY)
    if pair is not None and _fresh(pair[0], now, CA_RENEW_BEFORE):
        return pair
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twinmail local authority")])
    certificate = (
        _builder(name, name, key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _save(folder / CA, folder / CA_KEY, certificate, key)
    return certificate, key


def _issue(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = _alternative_names(names)
    common = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (names or LOCAL_NAMES)[0][:64])])
    certificate = (
        _builder(common, ca.subject, key, now, LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(wanted, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(names: Sequence[str]) -> x509.SubjectAlternativeName:
    dns = dict.fromkeys((*names, *LOCAL_NAMES))
    return x509.SubjectAlternativeName(
        [*(x509.DNSName(name) for name in dns), *(x509.IPAddress(one) for one in LOCAL_ADDRESSES)]
    )


def _serves(certificate: x509.Certificate, ca: x509.Certificate, names: Sequence[str], now: datetime) -> bool:
    """Whether *certificate* is by *ca*, for exactly these names, and not soon to expire."""
    try:
        certificate.verify_directly_issued_by(ca)
        have = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return _fresh(certificate, now, RENEW_BEFORE) and have == _alternative_names(names)


def _fresh(certificate: x509.Certificate, now: datetime, before: timedelta) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - before


def _load(certificate: Path, key: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """The pair, or None if a part is missing, damaged or belongs to another."""
    try:
        public = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or public.public_key() != private.public_key():
        return None
    return public, private


def _save(
    certificate_path: Path, key_path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    # The key first: killed in between, the old certificate does not fit it and both are made again.
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    durable_file.write(key_path, secret, mode=0o600)
    durable_file.write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
