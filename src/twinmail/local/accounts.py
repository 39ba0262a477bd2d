"""The accounts of the local system: every mailbox gets one, with a generated password.

They are made as on any system, in S3. ``credentials.json`` in the state folder holds the passwords in clear
besides, for its owner only: without it nobody could log in to a system that was just made.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from twinmail import durable_file, password
from twinmail.account_store import AccountStore, update
from twinmail.accounts import Accounts, AccountsError, checked_digest, checked_user
from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.local.state import State

_CREDENTIALS = "credentials.json"


class CredentialsError(PermanentError):
    """The file with the local passwords cannot be used."""


@dataclass(frozen=True)
class Login:
    """One user of the local system.

    Attributes:
        digest: of the password, as in the accounts.
    """

    name: str
    password: str = field(repr=False)
    digest: str = field(repr=False)

    @classmethod
    def of(cls, name: str, secret: str) -> "Login":
        """With *secret* and a new digest of it."""
        return cls(checked_user(name), secret, password.digest(secret))


def publish(state: State, config: Config, store: AccountStore) -> None:
    """Make an account for every mailbox that has none; what is there stays as it is.

    A password that somebody changed elsewhere is no longer known here.

    Raises:
        CredentialsError: the file is damaged.
        AccountsError: the document is.
        NotWritten, AccountsUnavailable: transient.
    """
    logins = _load(state)
    there = store.read().accounts.users
    missing = [name for name in config.mailboxes if name not in there and name not in logins]
    # argon2 releases the interpreter's lock; the memory of four at a time is small.
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(Login.of, missing, [password.new_password() for _ in missing])
        logins |= {login.name: login for login in made}
    if missing:
        # Kept before it is needed: a password that nobody knows opens nothing.
        _save(state, logins)
    now = datetime.now(UTC)

    def change(accounts: Accounts) -> Accounts:
        for name in config.mailboxes:
            if name not in accounts.users:
                accounts = accounts.added(name, logins[name].digest, (), now)
        return accounts.with_logins(config)

    users = update(store, change).users
    known = {
        name: login
        for name, login in logins.items()
        if name not in users or users[name].digest == login.digest
    }
    if known.keys() != logins.keys():
        _save(state, known)


def remember(state: State, login: Login) -> None:
    """Keep the password that *login* was given.

    Raises:
        CredentialsError: the file is damaged.
        NotWritten: transient.
    """
    _save(state, {**_load(state), login.name: login})


def forget(state: State, name: str) -> None:
    """Keep no password of *name*.

    Raises:
        CredentialsError: the file is damaged.
        NotWritten: transient.
    """
    logins = _load(state)
    if logins.pop(name, None):
        _save(state, logins)


def passwords(state: State) -> dict[str, str]:
    """Password by user name."""
    return {login.name: login.password for login in _load(state).values()}


def demo_user(state: State, config: Config) -> Login:
    """The user to show in examples: the first mailbox with an address that is no catch-all.

    Raises:
        CredentialsError: there is none whose password is known here.
    """
    logins = _load(state)
    for name, mailbox in config.mailboxes.items():
        if name in logins and any(not address.startswith("*") for address in mailbox.addresses):
            return logins[name]
    raise CredentialsError(
        "twinmail.toml: no mailbox has an address of its own, and a password that is known here; "
        "add one with: ./inv user add NAME"
    )


def _load(state: State) -> dict[str, Login]:
    path = state.root / _CREDENTIALS
    try:
        document = json.loads(path.read_text("utf-8"))
        logins = {
            checked_user(name): Login(name, str(entry["password"]), checked_digest(str(entry["digest"])))
            for name, entry in document.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, AccountsError) as error:
        raise CredentialsError(
            f"{path}: expected the passwords that an earlier run wrote, got {_shown(error)}; "
            "remove the file to get new ones"
        ) from error
    return logins


def _shown(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _save(state: State, logins: Mapping[str, Login]) -> None:
    document = {
        name: {"password": login.password, "digest": login.digest} for name, login in sorted(logins.items())
    }
    durable_file.write(
        state.root / _CREDENTIALS, (json.dumps(document, indent=2) + "\n").encode("ascii"), mode=0o600
    )
