"""A certificate with its key, and a placeholder for the time before there is a real one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from twinmail.certificate import validity
from twinmail.certificate.validity import Unreadable, Validity

_SKEW = timedelta(hours=1)
_PLACEHOLDER_LIFE = timedelta(days=7)
_COMMON_NAME_LENGTH = 64


@dataclass(frozen=True)
class Pair:
    """A certificate chain, the server's own first, and the private key of that; both PEM.

    Attributes:
        names: DNS names of the server's certificate.
    """

    chain: bytes
    key: bytes = field(repr=False)
    names: frozenset[str]
    validity: Validity

    @property
    def placeholder(self) -> bool:
        """Whether no client will trust it."""
        return self.validity.self_signed


def load(chain: bytes, key: bytes) -> Pair:
    """The pair of *chain* and *key*.

    Raises:
        Unreadable: one of them is damaged, or they do not belong together.
    """
    try:
        certificate = x509.load_pem_x509_certificate(chain)
        private = serialization.load_pem_private_key(key, password=None)
        if certificate.public_key() != private.public_key():
            raise Unreadable("the private key belongs to another certificate")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise Unreadable(f"expected a certificate and its private key, both PEM: {error}") from error
    return Pair(chain, key, frozenset(names.get_values_for_type(x509.DNSName)), validity.read(chain))


def placeholder(names: Sequence[str], now: datetime) -> Pair:
    """A self-signed certificate for *names*: with it servers start, and no client is fooled."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:_COMMON_NAME_LENGTH])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _PLACEHOLDER_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return load(certificate.public_bytes(serialization.Encoding.PEM), secret)
