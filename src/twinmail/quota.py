"""Quota: what the messages of a mailbox take, told from their file names, and how its user is told. Pure.

A message counts with its octets as IMAP shows them (``W=``), in every folder, Trash and Junk included: so
does Dovecot's quota, and both must say the same (https://doc.dovecot.org/2.4.1/core/plugins/quota.html).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import format_datetime
from pathlib import Path

from twinmail.errors import TransientError

# Seen from the folder of the mailboxes. No mailbox has such a name.
PLACE = Path(".server") / "quotas"
# What all of Dovecot runs as.
UID = GID = 1000

_SIZE = re.compile(r",(?P<kind>[SW])=(?P<octets>[0-9]{1,18})(?=[,:]|$)")
_UNITS = ("octets", "KB", "MB", "GB", "TB")


class MailboxFull(TransientError):
    """There is no room for a message in a mailbox; there may be when its user made some."""


@dataclass(frozen=True)
class Usage:
    """What is in a mailbox: *octets* as IMAP shows them, and the count of *messages*."""

    octets: int = 0
    messages: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.octets + other.octets, self.messages + other.messages)


def size_of(name: str) -> int | None:
    """Octets of the message in the file *name* as IMAP shows them; None if its name does not tell."""
    sizes = {match["kind"]: int(match["octets"]) for match in _SIZE.finditer(name)}
    return sizes.get("W", sizes.get("S"))


@dataclass(frozen=True)
class Shortage:
    """A mailbox without room for all of its mail.

    Attributes:
        used: octets that its messages take.
        quota: octets that they may take.
        waiting: how many messages wait.
        octets: what these would take.
    """

    mailbox: str
    used: int
    quota: int
    waiting: int
    octets: int

    def __str__(self) -> str:
        return (
            f"mailbox {self.mailbox}: {readable(self.used)} of {readable(self.quota)} used, {self.waiting} "
            f"messages of {readable(self.octets)} wait; its user must make room, or raise "
            f"mailboxes.{self.mailbox}.quota_bytes in twinmail.toml"
        )


def user_database(quotas: Mapping[str, int]) -> bytes:
    """Dovecot's user database (passwd-file) that tells it the octets each mailbox may take."""
    return "".join(
        f"{mailbox}::{UID}:{GID}::::userdb_quota_storage_size={quotas[mailbox]}B\n"
        for mailbox in sorted(quotas)
    ).encode("ascii")


def that_fit(sizes: Iterable[tuple[str, int]], room: int) -> list[str]:
    """Those of *sizes* (key and octets, the oldest first) that fit into *room* together.

    One that is too large does not hold back smaller ones that came after it.
    """
    chosen = []
    for key, octets in sizes:
        if octets <= room:
            chosen.append(key)
            room -= octets
    return chosen


def readable(octets: int) -> str:
    """*octets* for people, in powers of 1024 as mail clients show them."""
    number, unit = float(octets), 0
    while number >= 1023.5 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} {_UNITS[unit]}" if unit < 2 or number >= 100 else f"{number:.1f} {_UNITS[unit]}"


def notice_id(server: str, mailbox: str, day: date) -> str:
    """What stands for an SES message id in the base name of the notice: one a server, mailbox and day."""
    return "quota-" + hashlib.sha256(f"{server}\n{mailbox}\n{day}".encode()).hexdigest()[:32]


def notice(host: str, address: str, shortage: Shortage, identifier: str, now: datetime) -> bytes:
    """The message that tells the user at *address* why new mail does not appear on the server *host*."""
    one = shortage.waiting == 1
    messages = "One new message waits" if one else f"{shortage.waiting} new messages wait"
    lines = (
        f"From: Mail server {host} <mailer-daemon@{host}>",
        f"To: <{address}>",
        "Subject: Your mailbox is full, new mail waits",
        f"Date: {format_datetime(now.astimezone(UTC))}",
        f"Message-ID: <{identifier}@{host}>",
        # RFC 3834 section 5: nobody answers this automatically.
        "Auto-Submitted: auto-generated",
        "Importance: high",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "Content-Transfer-Encoding: 7bit",
        "",
        f"Your mailbox on {host} is full:",
        f"{readable(shortage.used)} of {readable(shortage.quota)} are used.",
        "",
        f"{messages} for room ({readable(shortage.octets)}).",
        "Nothing is lost, and senders were not turned away: your mail is kept safe,",
        "and appears here by itself within a minute after you made room.",
        "",
        "To make room:",
        "",
        "- Delete messages that you no longer need, large ones first.",
        "- Then empty the Trash. What is in Trash and Junk counts, too.",
        "",
        "If you need all of it, ask whoever runs this server for a larger mailbox.",
        "",
        f"You get this at most once a day from {host}, while mail waits.",
        "",
    )
    return "\r\n".join(lines).encode("ascii")
