"""From envelope recipients (RFC 5321) to mailboxes; never from the To header, which knows nothing of Bcc."""

from collections.abc import Iterable
from dataclasses import dataclass

from twinmail.config import Config
from twinmail.errors import PermanentError


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


def recipient_of(config: Config, recipients: Iterable[str], mailbox: str) -> str:
    """The first of *recipients* that is *mailbox*; without one, the address that it writes from.

    There is none when the configuration has changed since the message was routed.
    """
    for recipient in recipients:
        if mailbox in route(config, (recipient,)).mailboxes:
            return recipient
    own = config.primary_address(mailbox) if mailbox in config.mailboxes else None
    return own or mailbox


def _candidates(recipient: str) -> tuple[str, ...]:
    """The addresses to look for, the most specific first."""
    local, _, domain = recipient.lower().rpartition("@")
    return f"{local}@{domain}", f"{local.partition('+')[0]}@{domain}", f"*@{domain}"


def identify(config: Config, user: str) -> tuple[str, str]:
    """The mailbox and the address that *user*, a mailbox or one of its addresses, means.

    Raises:
        PermanentError: neither a mailbox with an address nor an address of one.
    """
    if user in config.mailboxes:
        address = config.primary_address(user)
        if address is None:
            raise PermanentError(f"mailbox {user} has only catch-alls; name one of its addresses instead")
        return user, address
    lowered = user.lower()
    owners = [one for one in config.mailboxes if lowered in config.addresses_of(one)]
    _, at, domain = lowered.rpartition("@")
    owners += [one for one in config.mailboxes if at and domain in config.catch_all_domains_of(one)]
    if owners:
        return owners[0], lowered
    known = ", ".join(config.mailboxes)
    raise PermanentError(f"user {user!r}: expected a mailbox or an address of one; mailboxes: {known}")
