"""Which part of the log to list next; pure arithmetic on manifest keys.

The cursor is the last key of a listing before which nothing is unfinished. Keys sort by the time of commit,
but an entry may become visible after a later one, so every listing starts an overlap before the cursor and
the ledger skips what is known. An entry that is later still (the function was retried for hours, or its event
redriven from the dead-letter queue) is found by the audit, which lists whole days.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from twinmail.layout import MANIFEST, LayoutError, ManifestKey, manifest_day

OVERLAP = timedelta(minutes=15)
# An event is kept for 14 days at most (SQS), the next audit after it may be a day away, and today counts.
AUDIT_DAYS = 16


def committed(key: str) -> datetime | None:
    """When the entry *key* was committed; None if it is no manifest key."""
    try:
        return ManifestKey.parse(key).committed
    except LayoutError:
        return None


def start_after(cursor: str | None, now: datetime, overlap: timedelta = OVERLAP) -> str:
    """The key after which to list; every key committed at or after cursor minus *overlap* sorts after it.

    A cursor in the future (a clock was wrong) counts as now: it must not hide what comes before it.
    """
    moment = None if cursor is None else committed(cursor)
    if moment is None:
        return MANIFEST
    try:
        moment = min(moment, now) - overlap
    except OverflowError:
        return MANIFEST
    return f"{manifest_day(moment.date())}{moment:%H%M%S.%f}"


def audit_after(now: datetime) -> str:
    """The key after which the audit lists: whole days, today included."""
    return manifest_day(now.date() - timedelta(days=AUDIT_DAYS - 1))


def advance(cursor: str | None, listed: Sequence[str], unfinished: Collection[str]) -> str | None:
    """The cursor after a listing of *listed*: never past an unfinished key, never backwards."""
    for key in sorted(listed):
        if key in unfinished:
            break
        if committed(key) is not None and (cursor is None or key > cursor):
            cursor = key
    return cursor
