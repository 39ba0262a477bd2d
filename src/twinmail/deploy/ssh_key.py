"""The key by which the operator logs in to a server: Ed25519, in the store as ``ssh/SERVER``, nowhere else.

Source: RFC 8709 (Ed25519 in SSH); PROTOCOL.key of OpenSSH (the form of the file).
"""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from twinmail.errors import PermanentError


class SshKeyError(PermanentError):
    """What is in the store is no key that can be used."""


def name(server: str) -> str:
    """The secret's name in the store."""
    return f"ssh/{server}"


def make() -> bytes:
    """A new private key, as OpenSSH writes it, without a passphrase."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def public(private: bytes, server: str) -> str:
    """``TYPE BASE64`` of the key whose private part is *private*.

    Raises:
        SshKeyError: it is damaged, or has a passphrase.
    """
    try:
        key = load_ssh_private_key(private, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SshKeyError(
            f"secret {name(server)}: expected a private key of OpenSSH without a passphrase: {error}; "
            "put back the one that the server was made with, or remove it and the instance, and deploy again"
        ) from error
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
