"""``./inv app-password``: a password for each device, so that a lost one is one line to revoke."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP, SOON

if TYPE_CHECKING:
    from twinmail.account_store import S3AccountStore
    from twinmail.tasks.place import Place

_USER = "mailbox, or one of its addresses"


@command(help={"user": _USER, "label": "what it is for, such as 'phone'", **PLACE_HELP})
def add(
    context: Any,
    user: str,
    label: str = "",
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Make one more password for a user, and print it once."""
    from twinmail import password
    from twinmail.account_store import update
    from twinmail.accounts import AppPassword

    if not label:
        raise PermanentError(f"--label: expected what the password is for: {_example(user)}")
    system, store = _open(aws, config, state)
    name = store.read().accounts.find(user).name
    secret = password.new_password()
    added = AppPassword(label, password.name_of(secret), password.digest(secret), datetime.now(UTC))
    changed = update(store, lambda there: there.with_app_password(name, added)).user(name)
    if json_:
        told = {"user": name, "label": label, "password": secret, "logins": changed.logins}
        print(json.dumps({**told, "where": system.name}))
        return
    print(f"{name}: app password {label!r} made in {system.name}.")
    print(f"  password  {secret}   (shown only now)")
    print(f"  login     {' or '.join((name, *changed.logins))}")
    print(SOON)


@command(name="list", help={"user": _USER, **PLACE_HELP})
def list_(
    context: Any, user: str, aws: bool = False, config: str = "", state: str = "", json_: bool = False
) -> None:
    """Show the app passwords of a user by their labels and first characters."""
    system, store = _open(aws, config, state)
    found = store.read().accounts.find(user)
    if json_:
        rows = [
            {"label": one.label, "starts": one.name, "created": one.created.isoformat()}
            for one in found.app_passwords
        ]
        print(json.dumps({"user": found.name, "app_passwords": rows, "where": system.name}))
        return
    for one in found.app_passwords:
        print(f"{one.created:%Y-%m-%d}  {one.name}-…  {one.label}")
    if not found.app_passwords:
        print(f"{found.name} has no app passwords; make one with: {_example(found.name)}")


@command(help={"user": _USER, "label": "which one, as ./inv app-password list shows it", **PLACE_HELP})
def revoke(
    context: Any,
    user: str,
    label: str,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Take one app password of a user away; all others stay."""
    from twinmail.account_store import update

    system, store = _open(aws, config, state)
    name = store.read().accounts.find(user).name
    update(store, lambda there: there.without_app_password(name, label))
    if json_:
        print(json.dumps({"user": name, "label": label, "where": system.name}))
        return
    print(f"{name}: app password {label!r} revoked in {system.name}. {SOON}")


def _open(aws: bool, config: str, state: str) -> "tuple[Place, S3AccountStore]":
    from twinmail.config import Config
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    system = place.find(loaded, state, aws)
    return system, system.accounts(loaded)


def _example(user: str) -> str:
    return f"./inv app-password add {user} --label phone"


collection = Collection("app-password", add, list_, revoke)
