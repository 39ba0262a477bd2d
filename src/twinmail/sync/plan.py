"""What to do about one manifest entry: decided here, done by the carrier. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from twinmail.basename import base_name
from twinmail.filter.decision import Placement
from twinmail.folder_name import disk_name
from twinmail.layout import PROCESSED, LayoutError, ManifestKey
from twinmail.maildir import stem
from twinmail.manifest import Delivery, Entry, ManifestError

# What Maildir calls the flags of IMAP (https://cr.yp.to/proto/maildir.html).
_LETTERS = {"\\Answered": "R", "\\Draft": "D", "\\Flagged": "F", "\\Seen": "S"}


@dataclass(frozen=True)
class Park:
    """Trying again cannot help, for this *reason*."""

    reason: str


@dataclass(frozen=True)
class Deliver:
    """Deliver the message of *entry* to *deliveries*, each a mailbox that does not have it; none: finish."""

    entry: Entry
    stem: str
    deliveries: tuple[Delivery, ...]


def decode(key: str, data: bytes) -> Entry | Park:
    """Read the manifest entry *data* stored at *key*."""
    try:
        named = ManifestKey.parse(key)
        entry = Entry.from_bytes(data)
    except (LayoutError, ManifestError) as error:
        return Park(str(error))
    if entry.ses_id != named.ses_id:
        return Park(f"manifest entry: ses_id: expected {named.ses_id!r} as in its key, got {entry.ses_id!r}")
    segments = entry.key.split("/")
    if entry.deliveries and (not entry.key.startswith(PROCESSED) or {"", ".", ".."} & set(segments)):
        return Park(f"manifest entry: key: expected an object under {PROCESSED}, got {entry.key!r}")
    try:
        message_stem(entry)
    except (OverflowError, ValueError) as error:
        return Park(f"manifest entry: arrived: {error}")
    return entry


def message_stem(entry: Entry) -> str:
    """What identifies the message of *entry* in every Maildir."""
    return stem(base_name(entry.arrived, entry.ses_id, 0, 0))


def plan(entry: Entry, delivered: Collection[str]) -> Deliver:
    """Decide about *entry*, which the mailboxes *delivered* have already got (and may have deleted)."""
    first: dict[str, Delivery] = {}
    for one in entry.deliveries:
        # A mailbox gets a message once, in the folder named first.
        first.setdefault(one.mailbox, one)
    missing = tuple(one for name, one in first.items() if name not in delivered)
    return Deliver(entry, message_stem(entry), missing)


def placement(delivery: Delivery) -> Placement:
    """Where the imported message of *delivery* goes; no filter and no list of senders is asked about it."""
    letters = "".join(sorted(_LETTERS[one] for one in delivery.flags))
    return Placement(disk_name(delivery.folder), letters, delivery.keywords)
