"""From envelope recipients (RFC 5321) to mailboxes; never from the To header, which knows nothing of Bcc."""

from collections.abc import Iterable
from dataclasses import dataclass

from twinmail.config import Config


@dataclass(frozen=True)
class Routing:
    """Where a message goes.

    Attributes:
        mailboxes: each once, sorted.
        unknown: recipients nobody here has, as they were given.
    """

    mailboxes: tuple[str, ...]
    unknown: tuple[str, ...]


def route(config: Config, recipients: Iterable[str]) -> Routing:
    """Find the mailboxes of *recipients*.

    The most specific rule wins: the address itself (of a mailbox or an alias), then the address without its
    ``+tag``, then the domain's catch-all. Case is ignored, as every large provider does.
    """
    owners: dict[str, tuple[str, ...]] = dict(config.aliases)
    for mailbox in config.mailboxes.values():
        owners.update(dict.fromkeys(mailbox.addresses, (mailbox.name,)))
    found: set[str] = set()
    unknown: list[str] = []
    for recipient in recipients:
        names = next((owners[one] for one in _candidates(recipient) if one in owners), None)
        if names is None:
            unknown.append(recipient)
        else:
            found.update(names)
    return Routing(tuple(sorted(found)), tuple(unknown))


def _candidates(recipient: str) -> tuple[str, ...]:
    """The addresses to look for, the most specific first."""
    local, _, domain = recipient.lower().rpartition("@")
    return f"{local}@{domain}", f"{local.partition('+')[0]}@{domain}", f"*@{domain}"
