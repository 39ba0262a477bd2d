"""The accounts of the local system: a generated password for every mailbox, kept in the state folder.

``credentials.json`` holds the passwords in clear, for its owner only: without it nobody could log in to a
system that was just made. Deployed servers get the password file alone.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from twinmail import durable_file, password_file
from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.local.state import State
from twinmail.password_file import PasswordFileError

FILE = "users"  # beside local.conf in the folder that a server sees as /etc/twinmail
_CREDENTIALS = "credentials.json"


class CredentialsError(PermanentError):
    """The file with the local passwords cannot be used."""


@dataclass(frozen=True)
class Login:
    """One user of the local system.

    Attributes:
        passdb: the password's digest, as the password file holds it.
    """

    name: str
    password: str = field(repr=False)
    passdb: str = field(repr=False)


def ensure(state: State, config: Config) -> Mapping[str, Login]:
    """Make a password for every mailbox that has none; what is there stays as it is.

    Users that are no longer in *config* keep their password here, in case they come back, but get no line
    in the password file (see `install`).

    Raises:
        CredentialsError: the file is damaged.
        NotWritten: transient; nothing changed.
    """
    logins = _load(state)
    missing = [password_file.checked_user(name) for name in config.mailboxes if name not in logins]
    if missing:
        passwords = [password_file.new_password() for _ in missing]
        # argon2 releases the interpreter's lock; the memory of four at a time is small.
        with ThreadPoolExecutor(4) as pool:
            digests = list(pool.map(password_file.digest, passwords))
        for name, password, passdb in zip(missing, passwords, digests, strict=True):
            logins[name] = Login(name, password, passdb)
        _save(state, logins)
    return {name: logins[name] for name in config.mailboxes}


def install(state: State, config: Config, settings: Path) -> None:
    """Write the password file into the *settings* folder of a server; `ensure` comes first.

    Raises:
        NotWritten: transient; the old file is untouched.
    """
    logins = _load(state)
    password_file.save(settings / FILE, {name: logins[name].passdb for name in config.mailboxes})


def passwords(state: State) -> dict[str, str]:
    """Password by user name."""
    return {login.name: login.password for login in _load(state).values()}


def demo_user(state: State, config: Config) -> Login:
    """The user to show in examples: the first mailbox with an address that is no catch-all.

    Raises:
        CredentialsError: there is none.
    """
    logins = _load(state)
    for name, mailbox in config.mailboxes.items():
        if name in logins and any(not address.startswith("*") for address in mailbox.addresses):
            return logins[name]
    raise CredentialsError("twinmail.toml: no mailbox has an address of its own; add user@domain to one")


def _load(state: State) -> dict[str, Login]:
    path = state.root / _CREDENTIALS
    try:
        document = json.loads(path.read_text("utf-8"))
        logins = {
            password_file.checked_user(name): Login(name, str(entry["password"]), str(entry["passdb"]))
            for name, entry in document.items()
        }
        password_file.to_bytes({login.name: login.passdb for login in logins.values()})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, PasswordFileError) as error:
        raise CredentialsError(
            f"{path}: expected the passwords that an earlier run wrote, got {error!r}; "
            "remove the file to get new ones"
        ) from error
    return logins


def _save(state: State, logins: Mapping[str, Login]) -> None:
    document = {
        name: {"password": login.password, "passdb": login.passdb} for name, login in sorted(logins.items())
    }
    durable_file.write(
        state.root / _CREDENTIALS, (json.dumps(document, indent=2) + "\n").encode("ascii"), mode=0o600
    )
