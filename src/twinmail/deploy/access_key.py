"""Access keys of IAM users, kept in the operator's store, are replaced in two steps.

IAM allows a user two keys. So the new one is made and kept first (`begin`); the old one goes on working until
the servers have the new one, and is then removed (`finish`). A note beside the secret says which key is to
go, so that a step which was interrupted is completed by doing it again: no key is lost, none is left behind.
"""

import configparser
import json
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.config import Config
from twinmail.deploy import credentials
from twinmail.deploy.credentials import Needed
from twinmail.errors import PermanentError, TransientError
from twinmail.secret_store import SecretStore

_NOTE = "rotation"


class NoKey(PermanentError):
    """A key cannot be made or removed as asked; the text says what to do."""


class KeyUnavailable(TransientError):
    """IAM did not answer, or refused."""


def owners(config: Config, what: str) -> tuple[Needed, ...]:
    """The keys that *config* calls for: the webmail's (``smtp``), or of syncers and relays (``syncer``)."""
    smtp = what == "smtp"
    return tuple(one for one in credentials.every(config) if (one.secret == "smtp/webmail") == smtp)


def begin(iam: Any, store: SecretStore, owner: Needed) -> bool:
    """Keep a new key of *owner*, beside which the old one works on; False if that was done before.

    Raises:
        NoKey: the store has none that could be replaced.
        KeyUnavailable, NotWritten: transient; doing it again completes it.
    """
    note = f"{_NOTE}/{owner.secret}"
    going = (store.get(note) or b"").decode("ascii")
    here = _id(store.get(owner.secret))
    there = _keys(iam, owner)
    if going and here != going and here in there:
        return False
    if here not in there:
        raise NoKey(f"secret {owner.secret}: expected a key of {owner.user}; make one: ./inv deploy cloud")
    # Before anything is made: whoever finds a second key knows which of the two was there first.
    store.put(note, here.encode("ascii"))
    for one in there:
        if one != here:
            _delete(iam, owner, one)
    _create(iam, store, owner)
    return True


def finish(iam: Any, store: SecretStore, owner: Needed) -> tuple[str, ...]:
    """Remove every key of *owner* but the one in *store*; return their ids.

    Raises:
        NoKey: the one in the store is not of this user.
        KeyUnavailable: transient.
    """
    here, there = _id(store.get(owner.secret)), _keys(iam, owner)
    if here not in there:
        raise NoKey(f"secret {owner.secret}: expected a key of {owner.user}; make one: ./inv deploy cloud")
    removed = tuple(one for one in there if one != here)
    for one in removed:
        _delete(iam, owner, one)
    store.remove(f"{_NOTE}/{owner.secret}")
    return removed


def _create(iam: Any, store: SecretStore, owner: Needed) -> None:
    try:
        made = iam.create_access_key(UserName=owner.user)["AccessKey"]
    except (BotoCoreError, ClientError) as error:
        raise KeyUnavailable(f"IAM user {owner.user}: no new access key: {error}") from error
    store.put(owner.secret, owner.data(made["AccessKeyId"], made["SecretAccessKey"]))


def _keys(iam: Any, owner: Needed) -> list[str]:
    try:
        listed = iam.list_access_keys(UserName=owner.user)["AccessKeyMetadata"]
    except iam.exceptions.NoSuchEntityException as error:
        raise NoKey(f"IAM user {owner.user}: not there; make it: ./inv deploy cloud") from error
    except (BotoCoreError, ClientError) as error:
        raise KeyUnavailable(f"IAM user {owner.user}: {error}") from error
    ordered = sorted(listed, key=lambda one: (one["CreateDate"], one["AccessKeyId"]))
    return [one["AccessKeyId"] for one in ordered if one["Status"] == "Active"]


def _delete(iam: Any, owner: Needed, key: str) -> None:
    try:
        iam.delete_access_key(UserName=owner.user, AccessKeyId=key)
    except iam.exceptions.NoSuchEntityException:
        pass  # it is gone, which is what was wanted
    except (BotoCoreError, ClientError) as error:
        raise KeyUnavailable(f"IAM user {owner.user}: access key {key} not removed: {error}") from error


def _id(secret: bytes | None) -> str:
    """The id of the key in *secret*; empty if there is none, or it is damaged."""
    text = (secret or b"").decode("utf-8", "replace")
    try:
        return str(json.loads(text)["user"])
    except (ValueError, KeyError, TypeError):
        pass
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        return parser.get("default", "aws_access_key_id")
    except configparser.Error:
        return ""
