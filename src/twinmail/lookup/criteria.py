"""What a message is searched by, and whether an item of the index has it. Pure.

DynamoDB compares octets, people do not: texts are compared here, without regard to case, width and
composition (Unicode's NFKC and case folding). What a query reads costs the same with or without a filter.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Criteria:
    """All of what is not empty must hold.

    Attributes:
        sender: part of From, or of the envelope's sender.
        recipient: part of To and Cc; of a message that no mailbox got, of the envelope's recipients.
        subject: part of the subject.
        message_id: the Message-ID, whole, with or without brackets.
        attachment: has one with a name.
    """

    sender: str = ""
    recipient: str = ""
    subject: str = ""
    message_id: str = ""
    attachment: bool = False

    def match(self, item: Mapping[str, Any]) -> bool:
        """Whether *item*, in DynamoDB's attribute notation, is what is searched."""
        return (
            _within(self.sender, text(item, "from"), text(item, "mail_from"))
            and _within(self.recipient, text(item, "to"), text(item, "rcpt_to"))
            and _within(self.subject, text(item, "subject"))
            and (not self.message_id or _bare(self.message_id) == _bare(text(item, "message_id")))
            and (not self.attachment or "attachments" in item)
        )


def text(item: Mapping[str, Any], name: str) -> str:
    """The attribute *name* of *item*; empty if it has none."""
    return str(item.get(name, {}).get("S", ""))


def _within(wanted: str, *texts: str) -> bool:
    return not wanted or any(_folded(wanted) in one for one in map(_folded, texts))


def _folded(value: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def _bare(message_id: str) -> str:
    return message_id.strip().removeprefix("<").removesuffix(">")


def texts(item: Mapping[str, Any], name: str) -> Iterable[str]:
    """The texts in the list *name* of *item*."""
    return (str(one["S"]) for one in item.get(name, {}).get("L", ()))
