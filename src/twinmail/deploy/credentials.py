"""Access keys of the IAM users as whom servers call AWS: made once, and kept among the operator's secrets."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinmail import smtp_credentials
from twinmail.access_key import LIMIT, AccessKeys, NewKey
from twinmail.config import Config
from twinmail.deploy import server_files
from twinmail.errors import PermanentError
from twinmail.secret_store import SecretStore


class NoCredentials(PermanentError):
    """No key can be made for a user."""


@dataclass(frozen=True)
class Needed:
    """A secret that is missing.

    Attributes:
        secret: its name in the store.
        user: IAM user whose key it is.
        data: what is kept, of the key's id and its secret.
    """

    secret: str
    user: str
    data: Callable[[str, str], bytes]


def plan(config: Config, store: SecretStore) -> tuple[Needed, ...]:
    """Which keys *store* lacks, of all servers.

    Raises:
        SecretStoreError: a secret cannot be read, or others can read it.
    """
    return tuple(one for one in every(config) if store.get(one.secret) is None)


def every(config: Config) -> tuple[Needed, ...]:
    """The keys of all servers."""

    def sender(key: str, secret: str) -> bytes:
        password = smtp_credentials.smtp_password(secret, config.region)
        return json.dumps({"user": key, "password": password}).encode("ascii")

    def shared(key: str, secret: str) -> bytes:
        return NewKey(key, secret).to_file()

    found: dict[str, Needed] = {}
    for server in config.servers:
        users = {
            f"syncer/{server}/credentials": (config.syncer_user(server), shared),
            f"relay/{server}/credentials": (config.relay_user(server), shared),
            "smtp/webmail": (config.smtp_user(smtp_credentials.WEBMAIL), sender),
        }
        for name in server_files.secret_names(config, server):
            found[name] = Needed(name, *users[name])
    return tuple(found.values())


def make(iam: Any, needed: Needed, store: SecretStore) -> None:
    """Make the key of *needed*, and keep it.

    Raises:
        NoUser: the stack has not made the user.
        NoCredentials: it has as many keys as IAM allows.
        KeyUnavailable, NotWritten: transient; no key is left that nobody knows.
    """
    keys = AccessKeys(iam, needed.user)
    there = [one.id for one in keys.listed()]
    if len(there) >= LIMIT:
        raise NoCredentials(
            f"IAM user {needed.user} has the access keys {' and '.join(there)}, as many as IAM allows, "
            f"and none is in {store.root}; copy that folder from where you deployed before, or delete "
            f"one: aws iam delete-access-key --user-name {needed.user} --access-key-id {there[0]}"
        )
    made = keys.create()
    try:
        store.put(needed.secret, needed.data(made.id, made.secret))
    except BaseException:
        keys.delete(made.id)
        raise
