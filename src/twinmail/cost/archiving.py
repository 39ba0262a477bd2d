"""From which size on it pays to move an object of the log to a cheaper storage class. Pure.

A cheaper class asks less for each GiB, and has what Standard does not: a request that moves the object,
at least 128 KiB and some months billed for each, and a price of retrieval. Mail is kept for good, so the
months do not matter; the others make small objects dearer there than where they are.
Source: Amazon S3 User Guide, "Understanding and managing Amazon S3 storage classes", and prices.toml.
"""

from dataclasses import dataclass

from twinmail.cost.prices import Prices

BILLED_OCTETS = 128 * 1024
"""A smaller object is billed as one of this size."""

MONTHS = 12
"""After which moving an object must have paid."""

STEP = 1024
GIB = 1 << 30


@dataclass(frozen=True)
class Class:
    """A storage class that is read as fast as Standard, so that a server is restored from it without waiting.

    Attributes:
        name: S3's name of it.
        prices: what its prices begin with in the list.
        days: for which an object is billed at least.
    """

    name: str
    prices: str
    days: int


CLASSES = (Class("STANDARD_IA", "s3-ia", 30), Class("GLACIER_IR", "s3-glacier-ir", 90))
CHOSEN = CLASSES[1]

READS = {"incoming/": 0, "processed/": 1}
"""How often an object is read within `MONTHS` after it was moved: a server that is restored reads what is for
IMAP once; what SES stored is read when it arrives, and never again."""


def saved(octets: int, reads: int, to: Class, prices: Prices) -> float:
    """Dollars that moving an object of *octets* saves within `MONTHS`; below zero it costs.

    Raises:
        PricesError: something has no price.
    """
    size, billed = octets / GIB, max(octets, BILLED_OCTETS) / GIB
    kept = MONTHS * (size * prices["s3-storage"].usd - billed * prices[f"{to.prices}-storage"].usd)
    retrieved = size * prices[f"{to.prices}-retrieval"].usd
    request = prices[f"{to.prices}-read"].usd - prices["s3-read"].usd
    return kept - prices[f"{to.prices}-move"].usd - reads * (retrieved + request)


def smallest(reads: int, to: Class, prices: Prices) -> int:
    """The size in octets, a multiple of `STEP`, from which moving an object saves; what is larger saves more.

    Raises:
        PricesError: something has no price.
        ValueError: it never does.
    """
    # What is saved grows with the size, so the first size that saves is found by halving.
    low, high = 0, GIB // STEP
    if saved(high * STEP, reads, to, prices) <= 0:
        raise ValueError(f"{to.name}: with {reads} reads in {MONTHS} months it never pays")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if saved(middle * STEP, reads, to, prices) > 0 else (middle, high)
    return high * STEP


def table(prices: Prices) -> str:
    """For docs/retention.md: the sizes from which each class pays, and what it saves."""
    lines = ["| objects | class | pays from | 100 KiB | 1 MiB | 10 MiB |", "|---|---|---|---|---|---|"]
    for prefix, reads in READS.items():
        for to in CLASSES:
            start = smallest(reads, to, prices) // STEP
            cells = [_cents(saved(size << 10, reads, to, prices)) for size in (100, 1024, 10240)]
            lines.append(f"| `{prefix}` | {to.name} | {start} KiB | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cents(dollars: float) -> str:
    return f"{dollars * 100:+.4f} ¢"
