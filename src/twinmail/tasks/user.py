"""``./inv user``: who has a mailbox, and with which password."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from twinmail.errors import PermanentError
from twinmail.tasks.command import command

if TYPE_CHECKING:
    from twinmail.accounts import User
    from twinmail.config import Config
    from twinmail.tasks.place import ConfigFile, Place
    from twinmail.tasks.secret import Secret

# What every task on accounts and addresses takes.
PLACE_HELP = {
    "aws": "the system in AWS, although one runs here",
    "config": "another configuration than twinmail.toml",
    "state": "state folder of the running system, as given to ./inv up",
    "json": "print one JSON object",
}
SECRET_HELP = {
    "prompt": "ask for the password instead of making one",
    "stdin": "read the password from standard input, one line",
}
SOON = "Both servers know it within a minute."


@command(
    help={
        "name": "the new mailbox, which is a login name too",
        "address": "an address of it, or *@domain; several as words: ./inv user add NAME ADDRESS...",
        "full-name": "the name that others see beside the address",
        **SECRET_HELP,
        **PLACE_HELP,
    },
    iterable=["address"],
)
def add(
    context: Any,
    name: str,
    address: list[str],
    full_name: str = "",
    prompt: bool = False,
    stdin: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Make a mailbox with an account, and print its password once."""
    from twinmail import password
    from twinmail.account_store import update
    from twinmail.config import Config
    from twinmail.local import accounts as local_accounts
    from twinmail.tasks import place, secret

    with place.editing(place.config_file(config, state)) as file:
        text = _with_mailbox(file, name, address, full_name)
        loaded = Config.parse(text, file.path.name)
        system = place.find(loaded, state, aws)
        store = system.accounts(loaded)
        # Before anybody is asked and anything is changed.
        store.read().accounts.check_free(name)
        chosen = secret.obtain(prompt, stdin)
        digest = password.digest(chosen.text)
        file.write(text)
        system.bring_up_to_date(loaded, file.path)
        # The account comes last: until it is there, doing this again completes what was begun.
        now = datetime.now(UTC)
        user = update(store, lambda there: there.added(name, digest, (), now).with_logins(loaded)).user(name)
    if system.state is not None:
        local_accounts.remember(system.state, local_accounts.Login(name, chosen.text, digest))
    _print(system, user, chosen, f"{name}: mailbox and account made in {system.name}.", json_)


@command(
    help={"user": "mailbox, or one of its addresses", **SECRET_HELP, **PLACE_HELP},
)
def passwd(
    context: Any,
    user: str,
    prompt: bool = False,
    stdin: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Change the main password of a user; app passwords stay."""
    from twinmail import password
    from twinmail.account_store import update
    from twinmail.local import accounts as local_accounts
    from twinmail.tasks import secret

    system, loaded, _ = _open(aws, config, state)
    store = system.accounts(loaded)
    name = store.read().accounts.find(user).name
    chosen = secret.obtain(prompt, stdin)
    digest, now = password.digest(chosen.text), datetime.now(UTC)
    changed = update(store, lambda there: there.with_password(name, digest, now)).user(name)
    if system.state is not None:
        local_accounts.remember(system.state, local_accounts.Login(name, chosen.text, digest))
    _print(system, changed, chosen, f"{name}: password changed in {system.name}.", json_)


@command(help={"name": "the mailbox", **PLACE_HELP})
def remove(
    context: Any, name: str, aws: bool = False, config: str = "", state: str = "", json_: bool = False
) -> None:
    """Take a mailbox and its account away; its mail stays where it is."""
    from twinmail import config_text
    from twinmail.account_store import update
    from twinmail.accounts import AccountsError
    from twinmail.config import Config
    from twinmail.local import accounts as local_accounts
    from twinmail.tasks import place

    with place.editing(place.config_file(config, state)) as file:
        there = name in config_text.mailboxes(file.text)
        text = config_text.without_mailbox(file.text, name) if there else file.text
        loaded = Config.parse(text, file.path.name)
        system = place.find(loaded, state, aws)
        store = system.accounts(loaded)
        if not there and name not in store.read().accounts.users:
            raise AccountsError(f"user {name!r}: no such mailbox or account")
        # The account goes first: nobody logs in to a mailbox that is half gone.
        update(store, lambda before: before.without(name).with_logins(loaded))
        if there:
            _end_sending(system, Config.parse(file.text, file.path.name), name)
        file.write(text)
        system.bring_up_to_date(loaded, file.path)
    if system.state is not None:
        local_accounts.forget(system.state, name)
    kept = system.mail_of(loaded, name)
    if json_:
        print(json.dumps({"user": name, "where": system.name, "mail": kept}))
        return
    print(f"{name}: account and mailbox removed from {system.name}. {SOON}")
    print("No mail was deleted. It is in:")
    for one in kept:
        print(f"  {one}")


@command(name="list", help=PLACE_HELP)
def list_(context: Any, aws: bool = False, config: str = "", state: str = "", json_: bool = False) -> None:
    """Show every mailbox, its addresses and its passwords (without the passwords)."""
    from rich.console import Console
    from rich.table import Table

    system, loaded, _ = _open(aws, config, state)
    users = system.accounts(loaded).read().accounts.users
    names = sorted({*loaded.mailboxes, *users})
    rows = {
        name: {
            "mailbox": name in loaded.mailboxes,
            "addresses": list(loaded.mailboxes[name].addresses) if name in loaded.mailboxes else [],
            "account": name in users,
            "password_changed": users[name].changed.isoformat() if name in users else None,
            "app_passwords": [one.label for one in users[name].app_passwords] if name in users else [],
        }
        for name in names
    }
    if json_:
        print(json.dumps({"where": system.name, "users": rows}))
        return
    table = Table("user", "addresses", "password of", "app passwords", title=f"users of {system.name}")
    for name in names:
        box, user = loaded.mailboxes.get(name), users.get(name)
        table.add_row(
            name,
            ", ".join(box.addresses) if box else "no mailbox",
            f"{user.changed:%Y-%m-%d}" if user else "no account",
            ", ".join(one.label for one in user.app_passwords) if user else "",
        )
    Console().print(table)


def _with_mailbox(file: "ConfigFile", name: str, addresses: list[str], full_name: str) -> str:
    """The configuration with the mailbox *name*, which may be there already."""
    from twinmail import config_text
    from twinmail.config import Config

    if name not in config_text.mailboxes(file.text):
        own = addresses or [f"{name}@{config_text.first_domain(file.text)}"]
        return config_text.with_mailbox(file.text, name, own, full_name)
    there = Config.parse(file.text, file.path.name).mailboxes[name]
    same = not addresses or tuple(one.lower() for one in addresses) == there.addresses
    if not same or full_name not in ("", there.full_name):
        raise PermanentError(
            f"mailbox {name} is in {file.path.name} already, with other addresses or another name; "
            "leave both out, or change the file"
        )
    return file.text


def _end_sending(system: "Place", config: "Config", name: str) -> None:
    """Remove the SMTP credentials of *name*: IAM removes no user that has any."""
    from twinmail import smtp_credentials
    from twinmail.access_key import NoUser

    with suppress(NoUser, smtp_credentials.SmtpCredentialsError):  # the stack has not made its user yet
        smtp_credentials.revoke(system.session.client("iam"), config, name)


def _open(aws: bool, config: str, state: str) -> "tuple[Place, Config, Path]":
    """The system to look at or change, its configuration and where that is."""
    from twinmail.config import Config
    from twinmail.tasks import place

    path = place.config_file(config, state)
    loaded = Config.load(path)
    return place.find(loaded, state, aws), loaded, path


def _print(system: "Place", user: "User", chosen: "Secret", done: str, as_json: bool) -> None:
    if as_json:
        told = {"password": chosen.text} if chosen.generated else {}
        print(json.dumps({"user": user.name, **told, "logins": user.logins, "where": system.name}))
        return
    print(done)
    if chosen.generated:
        print(f"  password  {chosen.text}   (shown only now)")
    print(f"  login     {' or '.join((user.name, *user.logins))}")
    print(SOON)


collection = Collection("user", add, passwd, remove, list_)
