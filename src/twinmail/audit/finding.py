"""Discrepancies between the parts of the system: what each is, and what to do about it. Pure."""

from dataclasses import dataclass
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
    Kind.LEFT_OVER: "nobody misses it unless its message was deleted from incoming/ by mistake",
}


@dataclass(frozen=True)
class Finding:
    """One discrepancy.

    Attributes:
        ses_id: of the message; of a pack, its key.
        detail: which key, and what of it.
    """

    ses_id: str
    kind: Kind
    detail: str

    @property
    def remedy(self) -> str:
        """What to do."""
        return _REMEDIES[self.kind].replace("SES-ID", self.ses_id)

    @property
    def repairable(self) -> bool:
        """Whether `twinmail.audit.auditor.Auditor.repair` can try it."""
        return self.kind in (Kind.NOT_LOGGED, Kind.NO_MESSAGE, Kind.NOT_INDEXED, Kind.NOT_CLAIMED)
