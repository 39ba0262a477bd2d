"""``./inv alias``: addresses that lead to mailboxes with other addresses of their own."""

import json
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP, SOON

if TYPE_CHECKING:
    from twinmail.tasks.place import ConfigFile


@command(
    help={
        "address": "the address",
        "mailbox": "where it leads; several as words: ./inv alias add ADDRESS MAILBOX...",
        **PLACE_HELP,
    },
    iterable=["mailbox"],
)
def add(
    context: Any,
    address: str,
    mailbox: list[str],
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Let an address lead to a mailbox, besides those it leads to already."""
    from twinmail import config_text
    from twinmail.tasks import place

    if not mailbox:
        raise PermanentError("expected a mailbox: ./inv alias add ADDRESS MAILBOX...")
    with place.editing(place.config_file(config, state)) as file:
        names = [*_targets(file, address), *mailbox]
        text = config_text.with_alias(file.text, address, list(dict.fromkeys(names)))
        _apply(file, text, address, aws, state, json_)


@command(
    help={
        "address": "the address",
        "mailbox": "take only this mailbox from it; several as words",
        **PLACE_HELP,
    },
    iterable=["mailbox"],
)
def remove(
    context: Any,
    address: str,
    mailbox: list[str],
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Let an address lead nowhere any more, or no more to some mailboxes."""
    from twinmail import config_text
    from twinmail.tasks import place

    with place.editing(place.config_file(config, state)) as file:
        targets = _targets(file, address)
        kept = [one for one in targets if one not in mailbox] if mailbox else []
        strangers = [one for one in mailbox if one not in targets]
        if strangers:
            known = ", ".join(targets) or "nowhere"
            raise PermanentError(f"{address} does not lead to {strangers[0]!r}; it leads to: {known}")
        if kept:
            text = config_text.with_alias(file.text, address, kept)
        else:
            text = config_text.without_alias(file.text, address)
        _apply(file, text, address, aws, state, json_)


@command(
    name="list",
    help={
        "config": PLACE_HELP["config"],
        "state": PLACE_HELP["state"],
        "json": PLACE_HELP["json"],
    },
)
def list_(context: Any, config: str = "", state: str = "", json_: bool = False) -> None:
    """Show every alias and the mailboxes it leads to."""
    from twinmail.config import Config
    from twinmail.tasks import place

    aliases = Config.load(place.config_file(config, state)).aliases
    if json_:
        print(json.dumps({"aliases": aliases}))
        return
    for address, names in sorted(aliases.items()):
        print(f"{address} → {', '.join(names)}")
    if not aliases:
        print("no aliases; add one with: ./inv alias add ADDRESS MAILBOX...")


def _targets(file: "ConfigFile", address: str) -> tuple[str, ...]:
    """The mailboxes that *address* leads to as an alias now."""
    from twinmail.config import Config

    return Config.parse(file.text, file.path.name).aliases.get(address.lower(), ())


def _apply(file: "ConfigFile", text: str, address: str, aws: bool, state: str, as_json: bool) -> None:
    """Bring *text* to the file, the cloud, the servers and the login names."""
    from twinmail.account_store import update
    from twinmail.config import Config
    from twinmail.tasks import place

    loaded = Config.parse(text, file.path.name)
    system = place.find(loaded, state, aws)
    file.write(text)
    system.bring_up_to_date(loaded, file.path)
    update(system.accounts(loaded), lambda there: there.with_logins(loaded))
    names = loaded.aliases.get(address.lower(), ())
    if as_json:
        print(json.dumps({"address": address.lower(), "mailboxes": names, "where": system.name}))
        return
    print(f"{address.lower()} → {', '.join(names) or 'nobody'} in {system.name}.")
    print(SOON)


collection = Collection("alias", add, remove, list_)
