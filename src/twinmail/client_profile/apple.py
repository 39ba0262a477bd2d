"""The configuration profile for iOS, iPadOS and macOS, with one account a server.

Both accounts show the same messages; when one server is away, the other is a tap away. Source: Apple, Device
Management, ``com.apple.mail.managed``. A profile may be signed (CMS), then the device names its author; an
unsigned one works with a warning.
"""

import uuid
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from twinmail.client_profile.site import Site
from twinmail.client_profile.template import render
from twinmail.config import Config
from twinmail.errors import PermanentError

CONTENT_TYPE = "application/x-apple-aspen-config"
SUFFIX = ".mobileconfig"

# Any constant will do; it makes the same profile have the same UUIDs, so that a device replaces the old one.
_NAMESPACE = uuid.UUID("6f0a2f0e-5d3c-5f0e-9d5b-7477696e6d61")


class SigningError(PermanentError):
    """The key or the certificate cannot sign."""


@dataclass(frozen=True)
class Signer:
    """Signs profiles.

    Attributes:
        chain: the signing certificate first, then those that lead to its root.
    """

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def from_pem(cls, certificates: bytes, key: bytes) -> "Signer":
        """From what a web server has: the chain and its key, in PEM.

        Raises:
            SigningError: they are not that, or do not belong together.
        """
        try:
            private = serialization.load_pem_private_key(key, None)
            chain = tuple(x509.load_pem_x509_certificates(certificates))
        except (ValueError, TypeError) as error:
            raise SigningError(f"profile signing: expected PEM without a passphrase: {error}") from error
        if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise SigningError("profile signing: expected an RSA or EC key")
        if chain[0].public_key() != private.public_key():
            raise SigningError("profile signing: the key is not that of the first certificate")
        return cls(private, chain)

    def sign(self, data: bytes) -> bytes:
        """*data* inside a CMS SignedData (RFC 5652), in DER."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(data)
        builder = builder.add_signer(self.chain[0], self.key, hashes.SHA256())
        for certificate in self.chain[1:]:
            builder = builder.add_certificate(certificate)
        return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])


def profile(
    config: Config, site: Site, mailbox: str, address: str, smtp_user: str = "", signer: Signer | None = None
) -> bytes:
    """The profile of *mailbox* for its *address*; passwords are asked by the device, never part of it.

    Args:
        smtp_user: user name for SES, if it is known (see ``./inv smtp-credentials``).
    """
    domain = config.domains[0]
    text = render(
        "mobileconfig.plist.j2",
        identifier=".".join((*reversed(domain.split(".")), "twinmail", mailbox)),
        domain=domain,
        name=config.mailboxes[mailbox].full_name or mailbox,
        address=address,
        site=site,
        smtp_user=smtp_user,
        uuid_of=_uuid,
    )
    data = text.encode()
    return signer.sign(data) if signer else data


def _uuid(identifier: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, identifier)).upper()
