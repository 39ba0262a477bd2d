"""Changes to the text of twinmail.toml: comments, order and layout of everything else stay; pure.

Each function returns a text that `Config.parse` has accepted, so a file is never made wrong.
"""

from collections.abc import Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Comment, Item, Table, Whitespace

from twinmail.config import FILE, Config
from twinmail.errors import ConfigError


def mailboxes(text: str) -> tuple[str, ...]:
    """The mailboxes in *text*, which need not be right otherwise: before the first one it cannot be.

    Raises:
        ConfigError: it is not TOML.
    """
    boxes = _parsed(text).get("mailboxes", {})
    return tuple(boxes) if isinstance(boxes, dict) else ()


def first_domain(text: str) -> str:
    """The domain of an address that is not given otherwise.

    Raises:
        ConfigError: there is none.
    """
    domains = _parsed(text).get("domains")
    if not isinstance(domains, list) or not domains or not isinstance(domains[0], str):
        raise ConfigError(FILE, [f"{FILE}: domains: missing; expected a list of domains"])
    return str(domains[0])


def with_mailbox(text: str, name: str, addresses: Sequence[str], full_name: str = "") -> str:
    """*text* with the new mailbox *name*.

    Raises:
        ConfigError: it would not be right; all problems together.
    """
    document = _parsed(text)
    boxes = document.setdefault("mailboxes", tomlkit.table(is_super_table=True))
    if name in boxes:
        raise ConfigError(FILE, [f"{FILE}: mailboxes.{name}: is there already"])
    added = tomlkit.table()
    if full_name:
        added["full_name"] = full_name
    added["addresses"] = list(addresses)
    tables = [one for one in boxes.values() if isinstance(one, Table)]
    tail = _cut_tail(tables[-1]) if tables else ""
    if tables:
        _add_tail(tables[-1], "\n")
    boxes[name] = added
    _add_tail(added, tail)
    return _accepted(document)


def without_mailbox(text: str, name: str) -> str:
    """*text* without the mailbox *name*, also as a target of aliases; an alias without any other goes too.

    Raises:
        ConfigError: it would not be right: the last mailbox stays.
    """
    document = _parsed(text)
    boxes: Any = document.get("mailboxes", {})
    if name not in boxes:
        raise ConfigError(FILE, [f"{FILE}: mailboxes.{name}: is not there"])
    tail = _cut_tail(boxes[name])
    position = next((at for at, (key, _) in enumerate(_body(boxes)) if key is not None and key == name), None)
    del boxes[name]
    if position is not None:
        # What came after it belongs to what follows, and stays before that.
        _body(boxes)[position] = (None, Whitespace(tail.removeprefix("\n")))
    aliases: Any = document.get("aliases", {})
    for address, names in list(aliases.items()):
        if name in names:
            kept = [one for one in names if one != name]
            if kept:
                aliases[address] = kept
            else:
                _remove(aliases, address)
    return _accepted(document)


def with_alias(text: str, address: str, mailboxes: Sequence[str]) -> str:
    """*text* with *address* leading to *mailboxes*, whatever it led to as an alias before.

    Raises:
        ConfigError: it would not be right.
    """
    document = _parsed(text)
    aliases: Any = document.setdefault("aliases", tomlkit.table())
    written = _written(aliases, address)
    tail = _cut_tail(aliases)
    aliases[written] = list(mailboxes)
    _add_tail(aliases, tail)
    return _accepted(document)


def without_alias(text: str, address: str) -> str:
    """*text* without the alias *address*.

    Raises:
        ConfigError: there is none, or it would not be right.
    """
    document = _parsed(text)
    aliases: Any = document.get("aliases", {})
    written = _written(aliases, address)
    if written not in aliases:
        raise ConfigError(FILE, [f'{FILE}: aliases."{address}": is not there'])
    _remove(aliases, written)
    return _accepted(document)


def _parsed(text: str) -> Any:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(FILE, [f"not TOML: {error}"]) from error


def _accepted(document: Any) -> str:
    text = tomlkit.dumps(document)
    Config.parse(text)
    return text


def _written(aliases: Any, address: str) -> str:
    """How *address* is written there: domains and local parts ignore case."""
    return next((str(one) for one in aliases if one.lower() == address.lower()), address.lower())


def _remove(table: Any, key: str) -> None:
    tail = _cut_tail(table)
    del table[key]
    _add_tail(table, tail)


# tomlkit counts blank lines and comments before a header to the table above that header. What is added to
# that table, or takes its place, must come before them.


def _body(table: Any) -> list[tuple[Any, Item]]:
    body: list[tuple[Any, Item]] = table.value.body if isinstance(table, Table) else []
    return body


def _cut_tail(table: Any) -> str:
    """Take the blank lines and comments from the end of *table*."""
    body = _body(table)
    tail = []
    while body and body[-1][0] is None and isinstance(body[-1][1], Whitespace | Comment):
        tail.append(body.pop()[1].as_string())
    return "".join(reversed(tail))


def _add_tail(table: Any, tail: str) -> None:
    if tail:
        _body(table).append((None, Whitespace(tail)))
