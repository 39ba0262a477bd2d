"""Passwords: made, digested and compared, as Dovecot does it."""

import secrets

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from twinmail.errors import PermanentError

SCHEME = "{ARGON2ID}"

# What OWASP names for 19 MiB. Strong passwords are generated here, and Dovecot checks one login after the
# other, on a server with 512 MB. libsodium, which it checks with, wants one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)

# Without letters and digits that look alike, so that it can be typed on a telephone.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


class PasswordError(PermanentError):
    """What was given cannot be a password."""


def new_password() -> str:
    """A password of 99 random bits, in four groups of five."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))


def name_of(password: str) -> str:
    """What finds an app password among its user's: the first group, leaving 74 bits to guess."""
    return password.partition("-")[0]


def digest(password: str) -> str:
    """The form of *password* that is stored; another salt each time (40 ms and 19 MiB).

    Raises:
        PasswordError: empty, longer than IMAP clients and Dovecot agree on, or with a NUL.
    """
    octets = len(password.encode("utf-8"))
    if not 1 <= octets <= 512 or "\0" in password:
        raise PasswordError(f"password: expected 1 to 512 octets without NUL, got {octets}")
    return SCHEME + _HASHER.hash(password)


def verify(digested: str, password: str) -> bool:
    """Whether *digested*, as `digest` made it, belongs to *password*."""
    try:
        return _HASHER.verify(digested.removeprefix(SCHEME), password)
    except (VerificationError, InvalidHashError):
        return False
