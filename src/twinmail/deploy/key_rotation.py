"""Access keys of IAM users, kept in the operator's store, are replaced in two steps.

IAM allows a user two keys. So the new one is made and kept first (`begin`); the old one goes on working until
the servers have the new one, and is then removed (`finish`). A note beside the secret says which key is to
go, so that a step which was interrupted is completed by doing it again: no key is lost, none is left behind.
"""

import json
from contextlib import suppress
from typing import Any

from twinmail.access_key import AccessKeys, NewKey
from twinmail.config import Config
from twinmail.deploy import credentials
from twinmail.deploy.credentials import Needed
from twinmail.errors import PermanentError
from twinmail.secret_store import SecretStore

NOTES = "rotation"
"""Folder of the notes in the store."""


class NoKey(PermanentError):
    """The store holds no key that could be replaced; the text says what to do."""


class NotInUse(PermanentError):
    """The old key cannot go yet: nobody has used the new one."""


def owners(config: Config, what: str) -> tuple[Needed, ...]:
    """The keys that *config* calls for: the webmail's (``smtp``), or of syncers and relays (``syncer``)."""
    smtp = what == "smtp"
    return tuple(one for one in credentials.every(config) if (one.secret == "smtp/webmail") == smtp)


def begin(iam: Any, store: SecretStore, owner: Needed) -> bool:
    """Keep a new key of *owner*, beside which the old one works on; False if that was done before.

    Raises:
        NoKey: the store has none that could be replaced.
        NoUser: the stack has not made the user.
        KeyUnavailable, NotWritten: transient; doing it again completes it.
    """
    keys, note = AccessKeys(iam, owner.user), f"{NOTES}/{owner.secret}"
    going = (store.get(note) or b"").decode("ascii")
    here, there = _here(keys, store, owner)
    if going and here != going:
        return False
    # Before anything is made: whoever finds a second key knows which of the two was there first.
    store.put(note, here.encode("ascii"))
    for one in there:
        if one != here:
            keys.delete(one)
    made = keys.create()
    store.put(owner.secret, owner.data(made.id, made.secret))
    return True


def finish(iam: Any, store: SecretStore, owner: Needed, force: bool = False) -> tuple[str, ...]:
    """Remove every key of *owner* but the one in *store*; return their ids.

    Args:
        force: also if IAM has seen nobody use the one in the store.

    Raises:
        NoKey: the one in the store is not of this user.
        NotInUse: whoever uses the old one would be cut off.
        NoUser, KeyUnavailable: see `begin`.
    """
    keys = AccessKeys(iam, owner.user)
    here, there = _here(keys, store, owner)
    doomed = tuple(one for one in there if one != here)
    if doomed and not force:
        _check_use(keys, owner, here, doomed)
    for one in doomed:
        keys.delete(one)
    store.remove(f"{NOTES}/{owner.secret}")
    return doomed


def key_id(secret: bytes | None) -> str:
    """The id of the key in *secret*; empty if there is none, or it is damaged."""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(secret or b"")["user"])
    with suppress(ValueError):
        return NewKey.from_file(secret or b"").id
    return ""


def _here(keys: AccessKeys, store: SecretStore, owner: Needed) -> tuple[str, list[str]]:
    """The key in *store*, which must work, and all that work."""
    here, there = key_id(store.get(owner.secret)), [one.id for one in keys.listed() if one.active]
    if here not in there:
        raise NoKey(f"secret {owner.secret}: expected a key of {owner.user}; make one: ./inv deploy cloud")
    return here, there


def _check_use(keys: AccessKeys, owner: Needed, here: str, doomed: tuple[str, ...]) -> None:
    new = keys.last_used(here)
    old = max((when for one in doomed if (when := keys.last_used(one))), default=None)
    if new is not None and (old is None or new >= old):
        return
    seen = "nobody has used the new key" if new is None else "the old key was used after the new one"
    raise NotInUse(
        f"secret {owner.secret}: {seen} {here} as far as IAM knows, which may be some minutes behind; bring "
        f"it to the server ({_bring(owner)}), or remove the old one all the same with --force"
    )


def _bring(owner: Needed) -> str:
    if owner.secret == "smtp/webmail":
        return "./inv deploy backup, then send a message from the webmail"
    server = owner.secret.split("/")[1]
    sent = ", then send a message through it" if owner.secret.startswith("relay/") else ""
    return f"deploy server {server}{sent}"
