"""SES SMTP credentials: access keys of the IAM users that the stack makes, one user a mailbox.

The user name is the access key id; the password is derived from the secret key, which IAM shows once. Who may
send from which address is the policy of the user, so a credential is as narrow as its mailbox.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinmail import durable_file
from twinmail.access_key import LIMIT, AccessKeys, Key
from twinmail.config import Config
from twinmail.errors import PermanentError

WEBMAIL = "webmail"
"""The user of the webmail, which sends for all mailboxes; no mailbox may have this name."""

STARTTLS_PORT = 587
TLS_PORT = 465

_VERSION = 1


class SmtpCredentialsError(PermanentError):
    """The credentials cannot be made or removed as asked; the text says what to do."""


@dataclass(frozen=True)
class Endpoint:
    """Where the SES SMTP endpoint is: implicit TLS on *port*, STARTTLS on *starttls_port*."""

    host: str
    port: int = TLS_PORT
    starttls_port: int = STARTTLS_PORT

    @classmethod
    def of_region(cls, region: str) -> "Endpoint":
        """SES's own (AWS General Reference, "Amazon SES endpoints")."""
        return cls(f"email-smtp.{region}.amazonaws.com")


@dataclass(frozen=True)
class Credential:
    """One pair to log in with; nobody can show it a second time."""

    user: str
    password: str = field(repr=False)


def smtp_password(secret_key: str, region: str) -> str:
    """Derive the SMTP password of an IAM secret key (version 4).

    Source: SES Developer Guide, "Obtaining Amazon SES SMTP credentials", section on converting existing ones.
    """
    key = f"AWS4{secret_key}".encode()
    for part in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return base64.b64encode(b"\x04" + key).decode("ascii")


def keys(iam: Any, config: Config, mailbox: str) -> tuple[Key, ...]:
    """The access keys of *mailbox*, the oldest first.

    Raises:
        SmtpCredentialsError: no such mailbox.
        NoUser: the stack has not made its user yet.
        KeyUnavailable: transient.
    """
    return _keys(iam, config, mailbox).listed()


def create(iam: Any, config: Config, mailbox: str) -> Credential:
    """Make a credential for *mailbox*.

    Raises:
        SmtpCredentialsError: there are two already, which is all that IAM allows.
        NoUser, KeyUnavailable: see `keys`.
    """
    there = keys(iam, config, mailbox)
    if len(there) >= LIMIT:
        names = " and ".join(one.id for one in there)
        raise SmtpCredentialsError(
            f"{mailbox} has {len(there)} credentials, {names}, and IAM allows {LIMIT}; remove one with "
            f"./inv smtp-credentials {mailbox} --revoke --key ID, or replace both with --rotate"
        )
    return _create(iam, config, mailbox)


def rotate(iam: Any, config: Config, mailbox: str) -> tuple[Credential, tuple[str, ...]]:
    """Make a new credential for *mailbox* and remove all others; their ids are returned too.

    The newest of the others is removed last, when the new one is there, so that a failure leaves one.
    """
    there, owned = keys(iam, config, mailbox), _keys(iam, config, mailbox)
    for one in there[: max(0, len(there) - LIMIT + 1)]:
        owned.delete(one.id)
    made = _create(iam, config, mailbox)
    for one in there[max(0, len(there) - LIMIT + 1) :]:
        owned.delete(one.id)
    return made, tuple(one.id for one in there)


def revoke(iam: Any, config: Config, mailbox: str, key: str = "") -> tuple[str, ...]:
    """Remove the credential *key* of *mailbox*, or all of them, and return their ids.

    Raises:
        SmtpCredentialsError: it has no such key.
        NoUser, KeyUnavailable: see `keys`.
    """
    there = [one.id for one in keys(iam, config, mailbox)]
    if key and key not in there:
        known = ", ".join(there) or "none"
        raise SmtpCredentialsError(f"{mailbox} has no credential {key}; it has: {known}")
    doomed = [key] if key else there
    for one in doomed:
        _keys(iam, config, mailbox).delete(one)
    return tuple(doomed)


def ensure_webmail(iam: Any, config: Config, path: Path, host: str, port: int) -> bool:
    """Make sure that *path* holds a working credential of the webmail; say whether it is a new one.

    The file is JSON: ``version``, ``host``, ``port`` (implicit TLS), ``security`` ("tls"), ``user`` and
    ``password``, readable by its owner only. It is the only place where an SMTP password is stored in clear,
    because the webmail must know it. A credential whose key is still there and active is kept.

    Raises:
        NoUser: the stack has not made the webmail's user.
        KeyUnavailable, NotWritten: transient.
    """
    place = {"version": _VERSION, "host": host, "port": port, "security": "tls"}
    document = _read(path)
    active = {one.id for one in keys(iam, config, WEBMAIL) if one.active}
    if document.get("user") in active and document.get("password"):
        if all(document.get(name) == value for name, value in place.items()):
            return False
        made = Credential(str(document["user"]), str(document["password"]))
    else:
        made, _ = rotate(iam, config, WEBMAIL)
    text = json.dumps({**place, "user": made.user, "password": made.password}, indent=2)
    durable_file.write(path, f"{text}\n".encode("ascii"), mode=0o600)
    return True


def names(config: Config) -> Sequence[str]:
    """All for whom there is an IAM user: the mailboxes and the webmail."""
    return (*config.mailboxes, WEBMAIL)


def _known(config: Config, mailbox: str) -> str:
    if mailbox not in names(config):
        raise SmtpCredentialsError(
            f"unknown mailbox {mailbox!r}; known: {', '.join(config.mailboxes)} (and {WEBMAIL})"
        )
    return mailbox


def _keys(iam: Any, config: Config, mailbox: str) -> AccessKeys:
    return AccessKeys(iam, config.smtp_user(_known(config, mailbox)))


def _create(iam: Any, config: Config, mailbox: str) -> Credential:
    made = _keys(iam, config, mailbox).create()
    return Credential(made.id, smtp_password(made.secret, config.region))


def _read(path: Path) -> dict[str, Any]:
    """What the file says; empty if there is none, or it is damaged: then a new credential is made."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
