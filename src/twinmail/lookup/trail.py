"""The trail of one message: what each part of the system tells of it, in order of time. Pure.

Parts are asked one by one, and any of them may be down: then that is what the trail says of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from twinmail.lookup.hits import Hit
from twinmail.manifest import Entry


@dataclass(frozen=True)
class Event:
    """Something that happened to the message.

    Attributes:
        at: UTC; None if that is not known.
        who: the part of the system that tells it.
    """

    at: datetime | None
    who: str
    what: str


@dataclass(frozen=True)
class Trail:
    """What is known of a message.

    Attributes:
        hit: what the index has; None if it has nothing.
        received: octets under ``incoming/``; None if there is no such object.
        stored: octets of the message for IMAP; None if there is none.
        entry: of the log; None if it has none.
        sent: the message is one that SES sent for us.
        servers: what each server says, as `twinmail.sync.whereabouts` does; None if it does not answer.
        trouble: what could not be asked, and why.
    """

    ses_id: str
    hit: Hit | None = None
    received: int | None = None
    stored: int | None = None
    manifest_key: str | None = None
    entry: Entry | None = None
    sent: bool = False
    servers: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    events: Sequence[Event] = ()
    trouble: Sequence[str] = ()

    @property
    def known(self) -> bool:
        """Whether any part of the system has heard of the message."""
        told = any(one and (one["entries"] or one["deliveries"]) for one in self.servers.values())
        return bool(self.hit or self.entry or self.events or self.received is not None or told)

    @property
    def story(self) -> list[Event]:
        """All events in order; those of unknown time are last."""
        return sorted(self.events, key=_order)


_PATH = ("SES", "S3", "log", "function")


def _order(event: Event) -> tuple[bool, datetime, int, datetime]:
    """By the second, since S3 knows its times no better, and in that by the way that a message takes."""
    at = event.at or datetime.max.replace(tzinfo=UTC)
    rank = _PATH.index(event.who) if event.who in _PATH else len(_PATH)
    return event.at is None, at.replace(microsecond=0), rank, at


def conclusion(trail: Trail) -> str:
    """In one sentence: where the message is, or what it waits for and what to do."""
    if not trail.known:
        return (
            "no part of the system knows it: SES has not accepted a message with this id here; ask its "
            "sender for the answer of the mail server, and see ./inv search"
        )
    if trail.sent:
        bad = [one.what for one in trail.events if one.who == "SES" and not one.what.startswith("sent")]
        return f"sent by SES; {bad[-1]}" if bad else "sent by SES; no bounce or complaint came back"
    if trail.entry is None:
        if trail.received is None:
            return "its parts are there, but neither the received message nor an entry of the log"
        return (
            "SES has stored it, but it is not in the log: the function failed or was not told; the "
            "reconciler tries it within a quarter of an hour; see ./inv dlq, and the function's log above"
        )
    if trail.stored is None:
        return f"its entry is in the log, but the message {trail.entry.key} is not in the bucket any more"
    if not trail.entry.deliveries:
        why = trail.hit.withheld if trail.hit and trail.hit.withheld else "no mailbox"
        return f"nobody gets it ({why}); read it with: ./inv show {trail.ses_id} --raw"
    return "; ".join(_on_server(name, said, trail.entry) for name, said in trail.servers.items()) or (
        "it is in the log; no server could be asked"
    )


def _on_server(name: str, said: Mapping[str, Any] | None, entry: Entry) -> str:
    if said is None:
        return f"{name} does not answer"
    parked = [reason for reason in said["entries"].values() if reason]
    if parked:
        return f"{name} has put it aside: {parked[0]}"
    if said["retrying"]:
        return f"{name} tries it again: {next(iter(said['retrying'].values()))}"
    if said["waiting"]:
        return f"{name} has no room for it in {', '.join(said['waiting'])}"
    got = {one["mailbox"]: one for one in said["deliveries"]}
    missing = [one.mailbox for one in entry.deliveries if one.mailbox not in got]
    if missing:
        return f"{name} has not delivered it to {', '.join(missing)} yet"
    return (
        f"{name} has it"
        if any(one["now"] for one in got.values())
        else f"{name} had it, and a user deleted it"
    )
