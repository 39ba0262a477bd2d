"""Who may log in and with which passwords: the document ``state/accounts.json``, and the changes of it; pure.

Both servers render their password file from it (`twinmail.password_file`). It holds digests alone.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.layout import STATE

KEY = f"{STATE}accounts.json"
VERSION = 1

# What may be a mailbox in twinmail.toml: it is a folder's name, and a field between colons.
_USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# What Dovecot takes as a login name (auth_username_chars); other addresses log in as their mailbox.
_LOGIN = re.compile(r"[a-z0-9._-]+@[a-z0-9.-]+")
_LABEL = re.compile(r"[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?")
_NAME = re.compile(r"[a-z0-9]{5}")
_DIGEST = re.compile(r"\{ARGON2ID\}\$argon2id\$v=19\$m=[0-9]+,t=[0-9]+,p=1\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")


class AccountsError(PermanentError):
    """The document is damaged, or a change cannot be made; the text says what and how to go on."""


class NewerAccounts(AccountsError):
    """A newer twinmail wrote the document."""


@dataclass(frozen=True)
class AppPassword:
    """One more password of a user, for one device or program.

    Attributes:
        label: what its user calls it.
        name: its first five characters, which find it and are no secret.
        digest: of the whole password, as Dovecot stores it.
        created: UTC, to the second.
    """

    label: str
    name: str
    digest: str = field(repr=False)
    created: datetime


@dataclass(frozen=True)
class User:
    """One account: a mailbox whose user can log in.

    Attributes:
        digest: of the main password, as Dovecot stores it.
        changed: when that was set, UTC, to the second.
        logins: addresses that are login names as well as the mailbox's own name.
    """

    name: str
    digest: str = field(repr=False)
    changed: datetime
    logins: tuple[str, ...] = ()
    app_passwords: tuple[AppPassword, ...] = ()


@dataclass(frozen=True)
class Accounts:
    """All accounts, by mailbox; every change returns a new one."""

    users: Mapping[str, User] = field(default_factory=dict)

    def user(self, name: str) -> User:
        """The account *name*.

        Raises:
            AccountsError: there is none.
        """
        if name not in self.users:
            known = ", ".join(sorted(self.users)) or "none"
            raise AccountsError(f"user {name!r}: no such account; known: {known}")
        return self.users[name]

    def find(self, user: str) -> User:
        """The account that *user*, a mailbox or a login address, means.

        Raises:
            AccountsError: there is none.
        """
        owner = next((one.name for one in self.users.values() if user.lower() in one.logins), user)
        return self.user(owner)

    def check_free(self, name: str) -> None:
        """Check that *name* can be a new account.

        Raises:
            AccountsError: it exists, or is no name for a mailbox.
        """
        if checked_user(name) in self.users:
            raise AccountsError(
                f"user {name!r}: has an account already; change its password with: ./inv user passwd {name}"
            )

    def added(self, name: str, digest: str, logins: Iterable[str], now: datetime) -> "Accounts":
        """With the new account *name*.

        Raises:
            AccountsError: it exists, or would not be read back.
        """
        self.check_free(name)
        return self._with(User(name, checked_digest(digest), _second(now), tuple(logins)))

    def with_password(self, name: str, digest: str, now: datetime) -> "Accounts":
        """With another main password for *name*; app passwords stay.

        Raises:
            AccountsError: there is no such account.
        """
        return self._with(replace(self.user(name), digest=checked_digest(digest), changed=_second(now)))

    def without(self, name: str) -> "Accounts":
        """Without the account *name*, if it is there."""
        return Accounts({other: user for other, user in self.users.items() if other != name})

    def with_app_password(self, name: str, added: AppPassword) -> "Accounts":
        """With one more password for *name*.

        Raises:
            AccountsError: no such account, the label is taken or no label, or the password is too much
                like another one.
        """
        user = self.user(name)
        if not _LABEL.fullmatch(added.label):
            raise AccountsError(f"label {added.label!r}: expected 1 to 64 characters, none of them a control")
        if any(one.label == added.label for one in user.app_passwords):
            raise AccountsError(
                f"user {name!r}: has an app password {added.label!r} already; choose another label, or "
                f"first: ./inv app-password revoke {name} {added.label!r}"
            )
        if any(one.name == added.name for one in user.app_passwords):
            raise AccountsError(f"user {name!r}: an app password starts with {added.name} already; try again")
        added = replace(added, digest=checked_digest(added.digest), created=_second(added.created))
        return self._with(replace(user, app_passwords=(*user.app_passwords, added)))

    def without_app_password(self, name: str, label: str) -> "Accounts":
        """Without the app password *label* of *name*.

        Raises:
            AccountsError: no such account or label.
        """
        user = self.user(name)
        kept = tuple(one for one in user.app_passwords if one.label != label)
        if len(kept) == len(user.app_passwords):
            known = ", ".join(repr(one.label) for one in kept) or "none"
            raise AccountsError(f"user {name!r}: no app password {label!r}; known: {known}")
        return self._with(replace(user, app_passwords=kept))

    def with_logins(self, config: Config) -> "Accounts":
        """With the login names that *config* says, for every account whose mailbox is in it."""
        users = {
            name: replace(user, logins=logins(config, name)) if name in config.mailboxes else user
            for name, user in self.users.items()
        }
        # An address that moved here must not stay with an account whose mailbox is gone.
        taken = {one for name in config.mailboxes if name in users for one in users[name].logins}
        return Accounts(
            {
                name: user
                if name in config.mailboxes
                else replace(user, logins=tuple(one for one in user.logins if one not in taken))
                for name, user in users.items()
            }
        )

    def to_bytes(self) -> bytes:
        """The document: canonical JSON."""
        document = {
            "version": VERSION,
            "users": {
                name: {
                    "digest": user.digest,
                    "changed": _text(user.changed),
                    "logins": list(user.logins),
                    "app_passwords": [
                        {
                            "label": one.label,
                            "name": one.name,
                            "digest": one.digest,
                            "created": _text(one.created),
                        }
                        for one in user.app_passwords
                    ],
                }
                for name, user in self.users.items()
            },
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Accounts":
        """Read the document.

        Raises:
            NewerAccounts: a newer twinmail wrote it.
            AccountsError: it is damaged; the text says where, and shows no digest.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise AccountsError(f"{KEY}: not JSON ({_shown(error)})") from error
        if not isinstance(document, dict):
            raise AccountsError(f"{KEY}: expected an object, got {type(document).__name__}")
        version = document.get("version")
        if isinstance(version, int) and version > VERSION:
            raise NewerAccounts(f"{KEY}: version {version} is newer than {VERSION}; update twinmail here")
        if version != VERSION:
            raise AccountsError(f"{KEY}: expected version {VERSION}, got {version!r:.40}")
        users = document.get("users")
        if not isinstance(users, dict):
            raise AccountsError(f"{KEY}: users: expected an object, got {type(users).__name__}")
        return _checked(cls({name: _user(name, body) for name, body in users.items()}))

    def _with(self, user: User) -> "Accounts":
        return _checked(Accounts({**self.users, user.name: user}))


def logins(config: Config, mailbox: str) -> tuple[str, ...]:
    """The addresses that are login names of *mailbox*: those that lead to it alone."""
    shared = {address for address, names in config.aliases.items() if len(names) > 1}
    return tuple(one for one in config.addresses_of(mailbox) if one not in shared and _LOGIN.fullmatch(one))


def checked_user(name: str) -> str:
    """Return *name* if it can be a folder and part of a line of the password file.

    Raises:
        AccountsError: it cannot.
    """
    if not _USER.fullmatch(name):
        raise AccountsError(
            f"user name {name!r}: expected 1 to 64 lower-case letters, digits, '.', '_' and '-', "
            "the first a letter or digit"
        )
    return name


def checked_digest(digest: str) -> str:
    """Return *digest* if Dovecot would read it as meant.

    Raises:
        AccountsError: it would not; the text does not show it.
    """
    if not _DIGEST.fullmatch(digest):
        raise AccountsError("digest of a password: expected {ARGON2ID}$argon2id$… with p=1, got another form")
    return digest


def _checked(accounts: Accounts) -> Accounts:
    """Return *accounts* if no login name leads to two of them."""
    owners: dict[str, str] = {}
    for name, user in accounts.users.items():
        for login in user.logins:
            if owners.setdefault(login, name) != name:
                raise AccountsError(f"{KEY}: login {login!r}: belongs to {owners[login]!r} and {name!r}")
    return accounts


def _user(name: str, body: Any) -> User:
    where = f"{KEY}: users.{name[:64]}"
    try:
        apps = _list(body, "app_passwords")
        found = User(
            name=checked_user(name),
            digest=checked_digest(_string(body, "digest")),
            changed=_moment(_string(body, "changed")),
            logins=tuple(_login(one) for one in _list(body, "logins")),
            app_passwords=tuple(_app_password(one) for one in apps),
        )
    except (AccountsError, ValueError, TypeError, LookupError) as error:
        raise AccountsError(f"{where}: {_shown(error)}") from error
    for what in ("label", "name"):
        if len({getattr(one, what) for one in found.app_passwords}) < len(found.app_passwords):
            raise AccountsError(f"{where}: app_passwords: a {what} is there twice")
    return found


def _app_password(body: Any) -> AppPassword:
    label, name = _string(body, "label"), _string(body, "name")
    if not _LABEL.fullmatch(label):
        raise ValueError("app_passwords: label: expected 1 to 64 characters")
    if not _NAME.fullmatch(name):
        raise ValueError("app_passwords: name: expected 5 letters and digits")
    return AppPassword(
        label, name, checked_digest(_string(body, "digest")), _moment(_string(body, "created"))
    )


def _login(value: Any) -> str:
    if not isinstance(value, str) or not _LOGIN.fullmatch(value):
        raise ValueError("logins: expected addresses in lower case")
    return value


def _string(body: Any, key: str) -> str:
    value = body[key]
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a string")
    return value


def _list(body: Any, key: str) -> list[Any]:
    value = body[key]
    if not isinstance(value, list):
        raise ValueError(f"{key}: expected a list")
    return value


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with a zone, got {text[:40]!r}")
    return _second(moment)


def _second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _shown(error: Exception) -> str:
    """What an error says, short: it may quote the document."""
    text = f"no {error}" if isinstance(error, KeyError) else str(error)
    return text[:120]
