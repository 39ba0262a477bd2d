"""What a user is told when the own script is broken: a message, the same octets on every server. Pure."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import format_datetime

_LINE = 300
_LINES = 20


@dataclass(frozen=True)
class Complaint:
    """What Pigeonhole said about the script of *mailbox*, first on *day* (UTC)."""

    mailbox: str
    text: str
    day: date

    @property
    def identifier(self) -> str:
        """What stands for an SES message id in the base name: one a mailbox, day and text."""
        told = f"{self.mailbox}\n{self.day}\n{self.text}".encode()
        return "filter-" + hashlib.sha256(told).hexdigest()[:32]

    @property
    def at(self) -> datetime:
        """When the notice says it was written: equal on every server, so the beginning of the day."""
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)


def notice(complaint: Complaint, address: str) -> bytes:
    """The message that tells the user at *address*."""
    domain = address.rpartition("@")[2] or "localhost"
    lines = (
        f"From: Mail server <mailer-daemon@{domain}>",
        f"To: <{address}>",
        "Subject: Your mail filter does not work",
        f"Date: {format_datetime(complaint.at)}",
        f"Message-ID: <{complaint.identifier}@{domain}>",
        # RFC 3834 section 5: nobody answers this automatically.
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        "Your mail filter (the active script of your mailbox) has an error:",
        "",
        *(f"    {_shown(line)}" for line in complaint.text.split("\n")[:_LINES]),
        "",
        "No mail is lost: what the filter could not sort is in your inbox.",
        "",
        "Open the filters in your webmail or mail program and correct the rule, or switch it off.",
        "",
    )
    return "\r\n".join(lines).encode()


def _shown(line: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in line)[:_LINE]
