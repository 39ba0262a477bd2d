"""The password file of both IMAP servers: ``user:{ARGON2ID}$argon2id$…``, one line each.

Its form is Dovecot's passwd-file with the fields that a static user database leaves over: name and
password. Dovecot reads it again when its time or size has changed, at most once a second.
"""

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from twinmail import durable_file
from twinmail.errors import PermanentError

SCHEME = "{ARGON2ID}"

# What OWASP names for 19 MiB. Strong passwords are generated here, and Dovecot checks one login after the
# other, on a server with 512 MB. libsodium, which it checks with, wants one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)

# What may be a mailbox in twinmail.toml: it is a folder's name, and a field between colons.
_USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PASSDB = re.compile(r"\{ARGON2ID\}\$argon2id\$v=19\$m=[0-9]+,t=[0-9]+,p=1\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")

# Without letters and digits that look alike, so that it can be typed on a telephone.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


class PasswordFileError(PermanentError):
    """A user name or a line is not what Dovecot would read as meant."""


def checked_user(user: str) -> str:
    """Return *user* if it can be a line of the file and a folder.

    Raises:
        PasswordFileError: it cannot.
    """
    if not _USER.fullmatch(user):
        raise PasswordFileError(
            f"user name {user!r}: expected 1 to 64 lower-case letters, digits, '.', '_' and '-', "
            "the first a letter or digit"
        )
    return user


def new_password() -> str:
    """A password of 99 random bits, in four groups."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))


def digest(password: str) -> str:
    """The form of *password* that is stored; another salt each time (40 ms and 19 MiB).

    Raises:
        PasswordFileError: empty, longer than IMAP clients and Dovecot agree on, or with a NUL.
    """
    octets = len(password.encode("utf-8"))
    if not 1 <= octets <= 512 or "\0" in password:
        raise PasswordFileError(f"password: expected 1 to 512 octets without NUL, got {octets}")
    return SCHEME + _HASHER.hash(password)


def verify(passdb: str, password: str) -> bool:
    """Whether *passdb*, as `digest` made it, belongs to *password*."""
    try:
        return _HASHER.verify(passdb.removeprefix(SCHEME), password)
    except (VerificationError, InvalidHashError):
        return False


def to_bytes(users: Mapping[str, str]) -> bytes:
    """The file for *users*: what `digest` returned, by user name.

    Raises:
        PasswordFileError: a name or a digest would not be read as meant.
    """
    for user, passdb in users.items():
        checked_user(user)
        if not _PASSDB.fullmatch(passdb):
            raise PasswordFileError(f"user {user}: expected {SCHEME}$argon2id$… with p=1, got another form")
    return "".join(f"{user}:{users[user]}\n" for user in sorted(users)).encode("ascii")


def from_bytes(data: bytes, source: str = "password file") -> dict[str, str]:
    """Read what `to_bytes` wrote.

    Raises:
        PasswordFileError: a line has another form, or a user has two.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", "backslashreplace").splitlines(), 1):
        user, colon, passdb = line.partition(":")
        # The line is not shown: it may be a password that somebody wrote there in clear.
        if not colon or not _USER.fullmatch(user) or not _PASSDB.fullmatch(passdb):
            raise PasswordFileError(f"{source}: line {number}: expected user:{SCHEME}$argon2id$…")
        if user in users:
            raise PasswordFileError(f"{source}: line {number}: user {user} has a line already")
        users[user] = passdb
    return users


def load(path: Path) -> dict[str, str]:
    """Read the file at *path*; no file is no users.

    Raises:
        PasswordFileError: it cannot be read or has another form.
    """
    try:
        return from_bytes(path.read_bytes(), path.name)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PasswordFileError(f"{path}: cannot be read: {error.strerror}") from error


def save(path: Path, users: Mapping[str, str]) -> None:
    """Replace the file at *path*, whole and durably; only its owner can read it.

    Raises:
        PasswordFileError: see `to_bytes`; nothing is written.
        NotWritten: transient; the old file is untouched.
    """
    durable_file.write(path, to_bytes(users), mode=0o600)
