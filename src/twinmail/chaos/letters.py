"""The messages of a chaos run, made anew from its seed whenever somebody needs their octets. Pure."""

import random
from dataclasses import dataclass

CONFIG = """\
region = "eu-central-1"
stack = "twinmail"
bucket = "chaos-mail"
domains = ["example.org"]
operator = "ann@example.org"
[mailboxes.ann]
addresses = ["ann@example.org"]
[mailboxes.bob]
addresses = ["bob@example.org"]
[mailboxes.cat]
addresses = ["*@example.org"]
[aliases]
"team@example.org" = ["ann", "bob"]
[servers.primary]
platform = "PLATFORM"
host = "primary.example.org"
[servers.backup]
platform = "PLATFORM"
host = "backup.example.org"
"""
"""Two mailboxes, one for all other addresses, and an alias to two; the machine's platform is put in."""

LABEL = b"X-Chaos: "
"""The field that says which attempt to send which message a file is of; the first of the message."""

_PLACES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("ann@example.org",), ("ann",)),
    (("bob@example.org",), ("bob",)),
    (("anybody@example.org",), ("cat",)),
    (("team@example.org",), ("ann", "bob")),
    (("bob@example.org", "somebody@example.org"), ("bob", "cat")),
)
_LARGEST = 2 << 20


@dataclass(frozen=True)
class Letter:
    """One message.

    Attributes:
        rcpt_to: envelope recipients.
        mailboxes: where it belongs.
    """

    seed: int
    number: int
    rcpt_to: tuple[str, ...]
    mailboxes: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, seed: int, number: int) -> "Letter":
        """Message *number* of the run with *seed*; sizes are log-normal around 4 KB."""
        chance = random.Random(f"{seed}/{number}")
        rcpt_to, mailboxes = chance.choice(_PLACES)
        return cls(seed, number, rcpt_to, mailboxes, min(_LARGEST, int(chance.lognormvariate(8.3, 1.2))))

    def label(self, attempt: int) -> str:
        """What `LABEL` says of the *attempt*-th attempt to send it."""
        return f"{self.number}.{attempt}"

    def octets(self, attempt: int) -> bytes:
        """The message as it is sent in an attempt: each is one of its own, to be told from the others."""
        chance = random.Random(f"{self.seed}/{self.number}/body")
        body = chance.randbytes(self.size // 2).hex().encode()
        lines = b"\r\n".join(body[start : start + 76] for start in range(0, len(body), 76))
        head = (
            f"{LABEL.decode()}{self.label(attempt)}\r\n"
            f"From: Sender <sender@example.com>\r\nTo: {', '.join(self.rcpt_to)}\r\n"
            f"Subject: message {self.number}\r\nMessage-ID: <{self.number}.{self.seed}@example.com>\r\n\r\n"
        )
        return head.encode() + lines + b"\r\n"
