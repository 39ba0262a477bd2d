"""Discrepancies between the parts of the system: what each is, and what to do about it. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum


class Kind(Enum):
    """What is wrong with a message; the value is for people and scripts."""

    NOT_LOGGED = "not in the log"
    NO_MESSAGE = "entry without its message"
    NOT_INDEXED = "not in the index"
    NOT_CLAIMED = "entry without a claim"
    TWO_ENTRIES = "more than one entry"
    DAMAGED = "entry that cannot be read"
    LEFT_OVER = "known without being stored or in the log"
    BROKEN_PACK = "pack that is not what its index says"
    NOT_DELIVERED = "not delivered"
    NOT_RECORDED = "in the Maildir and not in the ledger"
    PUT_ASIDE = "put aside by the server"
    NO_ROOM = "waits for room in the mailbox"
    TWICE = "twice in a folder"
    CHANGED = "changed on the disk"


_OF_SERVERS = (Kind.NOT_DELIVERED, Kind.NOT_RECORDED, Kind.PUT_ASIDE)
_OF_CLOUD = (Kind.NOT_LOGGED, Kind.NO_MESSAGE, Kind.NOT_INDEXED, Kind.NOT_CLAIMED)
# The first word after the key is the base name, and that begins with when the message arrived.
_ARRIVED = re.compile(r": ([0-9]{1,11})\.")


_REMEDIES = {
    Kind.NOT_LOGGED: "--repair brings it into the log, and so to its mailboxes",
    Kind.NO_MESSAGE: "--repair makes it again of what SES stored; if that is gone too, bring back an older "
    "version of the object in the S3 console while it is kept (deleted_days)",
    Kind.NOT_INDEXED: "--repair indexes it; until then ./inv search does not find it",
    Kind.NOT_CLAIMED: "--repair claims it, so that a repeated event makes no second entry",
    Kind.TWO_ENTRIES: "servers that have one of them may deliver the other too; delete nothing before both "
    "were compared: ./inv show SES-ID",
    Kind.DAMAGED: "bring back an older version of the object in the S3 console",
    Kind.BROKEN_PACK: "servers read the originals while these are there; bring back an older version of the "
    "pack or of its index in the S3 console while it is kept (deleted_days), before originals expire",
    Kind.NOT_DELIVERED: "--repair has SERVER fetch it now; by itself it looks at the last days once a day",
    Kind.NOT_RECORDED: "--repair takes it into the ledger, so that it never arrives a second time",
    Kind.PUT_ASIDE: "--repair has SERVER try it again, as it does once a day; the reason says what is wrong",
    Kind.NO_ROOM: "raise the quota of MAILBOX in twinmail.toml, or have its user delete mail; then it comes",
    Kind.TWICE: "compare the two files in the Maildir of MAILBOX on SERVER, and move one of them away",
    Kind.CHANGED: "move that file out of the Maildir of MAILBOX on SERVER, then: ./inv restore "
    "--server SERVER --mailbox MAILBOX --since SINCE --until UNTIL --lost",
    Kind.LEFT_OVER: "nobody misses it unless its message was deleted from incoming/ by mistake",
}


@dataclass(frozen=True)
class Finding:
    """One discrepancy.

    Attributes:
        ses_id: of the message; of a pack, its key.
        detail: which key, and what of it.
        server: which one it is about; empty if it is about the cloud.
        mailbox: of that server.
    """

    ses_id: str
    kind: Kind
    detail: str
    server: str = ""
    mailbox: str = ""

    @property
    def remedy(self) -> str:
        """What to do."""
        text = _REMEDIES[self.kind]
        for word, value in self._words().items():
            text = text.replace(word, value)
        return text

    @property
    def repairable(self) -> bool:
        """Whether ``--repair`` can try it."""
        return self.kind in _OF_CLOUD or self.kind in _OF_SERVERS

    @property
    def key(self) -> str:
        """Of the manifest entry, where the detail tells it."""
        return self.detail.partition(" ")[0].removesuffix(":")

    def _words(self) -> dict[str, str]:
        words = {"SES-ID": self.ses_id, "SERVER": self.server, "MAILBOX": self.mailbox}
        match = _ARRIVED.search(self.detail)
        if match:
            arrived = datetime.fromtimestamp(int(match[1]), UTC)
            words["SINCE"] = f"{arrived:%Y-%m-%dT%H:%M:%SZ}"
            words["UNTIL"] = f"{arrived + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
        return words
