"""Where things are in the bucket: the keys of S3 objects, and nothing else.

The Lambda, the syncer and the tools share this module: one layout, one room. All datetimes are aware and in
UTC; a key made from a naive one would silently move a message to another day.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from twinmail.errors import PermanentError

INCOMING = "incoming/"
PROCESSED = "processed/"
QUARANTINE = "quarantine/"
MANIFEST = "manifest/"
PACKS = "packs/"
PACKS_CURSOR = f"{PACKS}cursor.json"
STATE = "state/"
SENT = f"{STATE}sent/"
FEEDBACK = f"{STATE}feedback/"

# SES puts this object into the prefix of a new receipt rule to prove that it may; it is no message.
SETUP_NOTIFICATION = "AMAZON_SES_SETUP_NOTIFICATION"

_SES_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_MANIFEST_KEY = re.compile(
    r"manifest/(?P<day>[0-9]{4}/[0-9]{2}/[0-9]{2})/(?P<time>[0-9]{6}\.[0-9]{6})Z-(?P<ses_id>[A-Za-z0-9_-]+)\.json"
)

_PACK_KEY = re.compile(
    r"packs/(?P<day>[0-9]{4}/[0-9]{2}/[0-9]{2})/(?P<digits>[0-9a-f]{16})"
    r"\.(?P<kind>pack|json|tagged-(?P<last>[0-9]{8}))"
)


class LayoutError(PermanentError):
    """A key or an SES message id does not have the form of the layout."""


def checked_ses_id(ses_id: str) -> str:
    """Return *ses_id* if it can stand in a key and a file name.

    Raises:
        LayoutError: it could leave its folder, or break a LIST (``//`` and ``.`` segments do).
    """
    if not _SES_ID.fullmatch(ses_id):
        raise LayoutError(f"SES message id {ses_id!r}: expected 1 to 128 letters, digits, '-' or '_'")
    return ses_id


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise LayoutError(f"time {moment.isoformat()}: expected one with a time zone, got a naive one")
    return moment.astimezone(UTC)


def incoming_key(ses_id: str) -> str:
    """Key of the raw bytes as SES stored them."""
    return f"{INCOMING}{checked_ses_id(ses_id)}"


def processed_key(ses_id: str, arrived: datetime) -> str:
    """Key of the message for IMAP, under the day it arrived."""
    return f"{PROCESSED}{_utc(arrived):%Y/%m/%d}/{checked_ses_id(ses_id)}.eml"


def recovered_key(ses_id: str, arrived: datetime) -> str:
    """Key of a message whose envelope was read out of the stored message, because no event told it."""
    return f"{PROCESSED}{_utc(arrived):%Y/%m/%d}/{checked_ses_id(ses_id)}-recovered.eml"


def imported_key(ses_id: str, arrived: datetime, sha256: str) -> str:
    """Key of an imported message with the digest *sha256*.

    The digest is in the name: two sources of one message may differ in octets that do not make it another
    message, and an entry must never meet the octets of the other.
    """
    return f"{PROCESSED}{_utc(arrived):%Y/%m/%d}/{checked_ses_id(ses_id)}-{sha256[:16]}.eml"


def quarantine_key(ses_id: str, arrived: datetime) -> str:
    """Key of a message that a virus verdict stopped."""
    return f"{QUARANTINE}{_utc(arrived):%Y/%m/%d}/{checked_ses_id(ses_id)}.eml"


def sent_day(day: date) -> str:
    """Prefix of what was sent on *day* (UTC)."""
    return f"{SENT}{day:%Y/%m/%d}/"


def sent_key(ses_id: str, sent: datetime) -> str:
    """Key of the record of a message that SES sent for us, under the day it took it."""
    return f"{SENT}{_utc(sent):%Y/%m/%d}/{checked_ses_id(ses_id)}.json"


def feedback_key(identifier: str, happened: datetime) -> str:
    """Key of the record of a bounce or a complaint, under the day it happened."""
    return f"{FEEDBACK}{_utc(happened):%Y/%m/%d}/{checked_ses_id(identifier)}.json"


def manifest_day(day: date) -> str:
    """Prefix of all manifest entries committed on *day* (UTC)."""
    return f"{MANIFEST}{day:%Y/%m/%d}/"


def manifest_key(ses_id: str, committed: datetime) -> str:
    """Key of a manifest entry; keys sort by commit time (microseconds)."""
    moment = _utc(committed)
    return f"{manifest_day(moment.date())}{moment:%H%M%S.%f}Z-{checked_ses_id(ses_id)}.json"


@dataclass(frozen=True)
class ManifestKey:
    """What the key of a manifest entry says.

    Attributes:
        committed: when the entry was committed, UTC.
        ses_id: the SES message id.
    """

    committed: datetime
    ses_id: str

    @classmethod
    def parse(cls, key: str) -> "ManifestKey":
        """Read *key*.

        Raises:
            LayoutError: it is not the key of a manifest entry.
        """
        match = _MANIFEST_KEY.fullmatch(key)
        if match is None:
            raise LayoutError(f"key {key!r}: expected manifest/YYYY/MM/DD/HHMMSS.ffffffZ-<ses-id>.json")
        try:
            # By position: strptime takes ten times as long, and a restore reads every key.
            day, time = match["day"], match["time"]
            moment = datetime(
                int(day[:4]),
                int(day[5:7]),
                int(day[8:]),
                int(time[:2]),
                int(time[2:4]),
                int(time[4:6]),
                int(time[7:]),
                tzinfo=UTC,
            )
        except ValueError as error:
            raise LayoutError(f"key {key!r}: not a date and time ({error})") from error
        return cls(committed=moment, ses_id=checked_ses_id(match["ses_id"]))

    def __str__(self) -> str:
        return manifest_key(self.ses_id, self.committed)


def packs_key(first: date, sha256: str) -> str:
    """Key of the pack with the digest *sha256* whose first entry was committed on the day *first*."""
    return f"{PACKS}{first:%Y/%m/%d}/{sha256[:16]}.pack"


@dataclass(frozen=True)
class PackKey:
    """What the key of a pack, of its index or of its mark says.

    Attributes:
        first: day of the first entry in the pack, UTC.
        digits: the first 16 of the pack's sha256.
        kind: ``pack``; ``json``, its index, without which it counts for nothing; or ``tagged``, the mark that
            all originals of the pack are tagged.
        last: day of the last entry in the pack, UTC; only the mark tells it.
    """

    first: date
    digits: str
    kind: str
    last: date | None = None

    @classmethod
    def parse(cls, key: str) -> "PackKey":
        """Read *key*.

        Raises:
            LayoutError: it is none of these.
        """
        match = _PACK_KEY.fullmatch(key)
        if match is None:
            raise LayoutError(f"key {key!r}: expected packs/YYYY/MM/DD/<16 hexadecimal digits>.pack or .json")
        try:
            first = datetime.strptime(match["day"], "%Y/%m/%d").date()
            last = datetime.strptime(match["last"], "%Y%m%d").date() if match["last"] else None
        except ValueError as error:
            raise LayoutError(f"key {key!r}: not a date ({error})") from error
        return cls(first, match["digits"], match["kind"].partition("-")[0], last)

    @property
    def pack(self) -> str:
        """Key of the pack."""
        return packs_key(self.first, self.digits)

    @property
    def index(self) -> str:
        """Key of its index."""
        return f"{self.pack.removesuffix('pack')}json"

    def mark(self, last: date) -> str:
        """Key of its mark, when its last entry was committed on the day *last*."""
        return f"{self.pack.removesuffix('pack')}tagged-{last:%Y%m%d}"
