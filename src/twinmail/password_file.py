"""The password file of an IMAP server, rendered from the accounts: Dovecot's passwd-file.

::

    anna@example.org:::::::user=anna noauthenticate     an address that is a login name
    anna/:{ARGON2ID}$argon2id$…                         the main password
    anna/abcde:{ARGON2ID}$argon2id$…                    an app password, found by its first group
    /end:::::::noauthenticate whole=/-end               the last line; without it the file is not whole

``conf/auth.conf`` of the Dovecot image looks each up. Dovecot reads the file again when its size or its time,
in whole seconds, has changed, and looks at most once a second.
"""

from collections.abc import Iterator
from pathlib import Path

from twinmail import durable_file
from twinmail.accounts import Accounts

# Seen from the folder of the mailboxes. No mailbox has such a name.
PLACE = Path(".server") / "users"

_END = b"/end:::::::noauthenticate whole=/-end\n"


def to_bytes(accounts: Accounts) -> bytes:
    """The file for *accounts*."""
    return "".join(f"{line}\n" for line in _lines(accounts)).encode("ascii") + _END


def _lines(accounts: Accounts) -> Iterator[str]:
    for name, user in sorted(accounts.users.items()):
        for login in user.logins:
            yield f"{login}:::::::user={name} noauthenticate"
        yield f"{name}/:{user.digest}"
        for one in user.app_passwords:
            yield f"{name}/{one.name}:{one.digest}"


def read(path: Path) -> bytes:
    """The file at *path*; empty if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def revoked(old: bytes, accounts: Accounts) -> frozenset[str]:
    """The users with a password in the file *old* that *accounts* do not take any more."""
    kept = set(to_bytes(accounts).splitlines())
    gone = [line.partition(b":")[0].partition(b"/") for line in old.splitlines() if line not in kept]
    return frozenset(user.decode("ascii", "replace") for user, slash, _ in gone if user and slash)


def save(path: Path, accounts: Accounts) -> bool:
    """Bring the file at *path* to what *accounts* say, durably; say whether that was a change.

    Only its owner can read it.

    Raises:
        NotWritten: transient; the old file is untouched.
    """
    wanted, old = to_bytes(accounts), read(path)
    if old.rstrip(b"#\n") == wanted.rstrip(b"\n"):
        return False
    # A changed password leaves the size as it was, and a second change in one second the time.
    padding = (old.count(b"#") + 1) % 16
    if len(wanted) + padding + 1 == len(old):
        padding += 1
    durable_file.write(path, wanted + b"#" * padding + b"\n", mode=0o600)
    return True
