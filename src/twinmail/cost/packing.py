"""What packs save: requests of a restore, and a year of storage, computed for docs/packs.md. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from twinmail.cost.archiving import BILLED_OCTETS, CHOSEN, GIB, MONTHS
from twinmail.cost.prices import Prices
from twinmail.cost.quantities import LIST_KEYS
from twinmail.layout import manifest_key
from twinmail.packs.plan import LEAST, Candidate, plan

MESSAGES = 1_000_000
ENTRY_OCTETS = 480
"""A manifest entry with one recipient."""

KIB, MB = 1024, 1 << 20
SIZES = (2, 4, 12, 34, 100, 1024)
"""Mean sizes of a message, KiB, that the table shows."""

DAYS_SHOWN = ((12, 30), (12, 1000), (12, 10_000), (34, 30), (34, 1000), (100, 30), (100, 1000))
"""Mean sizes, KiB, and messages a day for which requests are shown."""

PER_LISTING = 3
"""Objects of a pack: the pack, its index and its mark."""

BLOCK = 4 << 20
"""Octets of a pack that a server reads with one request."""

_SAMPLE = 5000


@dataclass(frozen=True)
class Requests:
    """Requests of a restore of `MESSAGES`.

    Attributes:
        unpacked, packed: for one message.
        mean_octets: of a pack.
    """

    unpacked: float
    packed: float
    mean_octets: float


def requests(kib: int, a_day: int) -> Requests:
    """Requests when messages have *kib* KiB and *a_day* come each day: indexes, blocks of packs, listings."""
    sample = max(_SAMPLE, 3 * a_day)
    today = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=sample // a_day + 1)).date()
    # The last one holds what is left over, which waits.
    packs = list(takewhile(lambda one: one.due, plan(_log(sample, kib, a_day), today, 10**6)))
    messages = sum(len(one.entries) for one in packs)
    # An index each, and the blocks.
    asked = sum(1 + math.ceil(one.octets / BLOCK) + PER_LISTING / LIST_KEYS for one in packs)
    return Requests(2 + 1 / LIST_KEYS, asked / messages, sum(one.octets for one in packs) / len(packs))


def _log(count: int, kib: int, a_day: int) -> Iterator[Candidate]:
    start, step = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1) / a_day
    octets = b" " * ENTRY_OCTETS
    for number in range(count):
        at = start + number * step
        yield Candidate(manifest_key(f"id{number}", at), octets, at.date(), str(number), kib * KIB, "")


@dataclass(frozen=True)
class Kept:
    """Dollars for `MESSAGES` that are for IMAP, in one way of keeping them.

    Attributes:
        once: what getting there takes.
        year: each year after it, in which all is read once.
    """

    once: float
    year: float


def kept(kib: int, prices: Prices) -> tuple[Kept, Kept, Kept, Kept]:
    """For messages of *kib* KiB: as objects, as objects in the cheaper class, packs, packs in that class.

    The entry of a message is an object too, and always too small to be moved; when there are packs, what they
    were made of is expired.

    Raises:
        PricesError: something has no price.
    """
    standard, cheap = prices["s3-storage"].usd, prices[f"{CHOSEN.prices}-storage"].usd
    message, entry = kib * KIB * MESSAGES / GIB, ENTRY_OCTETS * MESSAGES / GIB
    billed = max(kib * KIB, BILLED_OCTETS) * MESSAGES / GIB
    write, read, dear = prices["s3-write"].usd, prices["s3-read"].usd, prices[f"{CHOSEN.prices}-read"].usd
    move, retrieval = prices[f"{CHOSEN.prices}-move"].usd, prices[f"{CHOSEN.prices}-retrieval"].usd
    entries = MONTHS * entry * standard + MESSAGES * read
    # Packs of a small site; larger ones are fewer.
    packs = (message + entry) * GIB / LEAST
    # Both objects of a message are read, tagged, and billed for the tag until they expire, say a month.
    making = MESSAGES * 2 * (read + write + prices["s3-tag"].usd) + packs * (PER_LISTING * write + read)
    return (
        Kept(0.0, entries + MONTHS * message * standard + MESSAGES * read),
        Kept(MESSAGES * move, entries + MONTHS * billed * cheap + MESSAGES * dear + message * retrieval),
        Kept(making, MONTHS * (message + entry) * standard + 2 * packs * read),
        Kept(
            making + packs * move,
            MONTHS * (message + entry) * cheap + packs * (read + dear) + (message + entry) * retrieval,
        ),
    )


def request_table() -> str:
    """For docs/packs.md."""
    lines = [
        "| a message | messages a day | a pack | requests a message | in packs |",
        "|---|---|---|---|---|",
    ]
    for kib, a_day in DAYS_SHOWN:
        one = requests(kib, a_day)
        size = f"{one.mean_octets / MB:.1f} MB"
        lines.append(f"| {kib} KiB | {a_day:,} | {size} | {one.unpacked:.3f} | {one.packed:.4f} |")
    return "\n".join(lines) + "\n"


def cost_table(prices: Prices) -> str:
    """For docs/packs.md."""
    names = ("objects", f"objects in {CHOSEN.name}", "packs", f"packs in {CHOSEN.name}")
    lines = [f"| a message | {' | '.join(names)} |", "|---|---|---|---|---|"]
    for kib in SIZES:
        cells = [f"${one.once:,.2f} + ${one.year:,.2f}" for one in kept(kib, prices)]
        lines.append(f"| {kib:,} KiB | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
