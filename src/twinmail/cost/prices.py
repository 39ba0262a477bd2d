"""The list of prices: what one unit of everything costs, on which page that stands and when it was read."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from twinmail.errors import PermanentError

FILE = Path(__file__).with_name("prices.toml")
MAX_DAYS = 365
"""Age from which a price is no longer believed."""


class PricesError(PermanentError):
    """The price list is damaged, or does not have what is asked for."""


@dataclass(frozen=True)
class Price:
    """What one unit costs.

    Attributes:
        usd: dollars for one *unit*, without tax.
        free: units of each month that cost nothing.
        page: AWS's page with the price.
        read: the day it was read there.
        memory_mb, disk_gb: of a machine; 0 for everything else.
    """

    usd: float
    unit: str
    page: str
    read: date
    free: float = 0.0
    note: str = ""
    memory_mb: int = 0
    disk_gb: int = 0

    def of(self, quantity: float) -> float:
        """Dollars for *quantity* units in a month."""
        return max(0.0, quantity - self.free) * self.usd


@dataclass(frozen=True)
class Prices:
    """All prices, by name.

    Attributes:
        region: where they are asked.
    """

    region: str
    price: Mapping[str, Price]

    @classmethod
    def load(cls, path: Path = FILE) -> "Prices":
        """Read the file at *path*.

        Raises:
            PricesError: it cannot be read, or an entry lacks something.
        """
        try:
            document: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
            entries: Mapping[str, Any] = document["price"]
            price = {name: Price(**entry) for name, entry in entries.items()}
            region = str(document["region"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PricesError(f"{path.name}: not a list of prices: {error}") from error
        for name, one in price.items():
            if type(one.read) is not date or one.usd < 0 or one.free < 0 or not (one.unit and one.page):
                raise PricesError(
                    f"{path.name}: {name}: expected a price from 0, a unit, a page and a date, got {one}"
                )
        return cls(region, price)

    def __getitem__(self, name: str) -> Price:
        try:
            return self.price[name]
        except KeyError:
            raise PricesError(f"{FILE.name}: no price of {name}; add one, with its page and date") from None

    def plan(self, bundle: str) -> Price:
        """The price of the Lightsail machine *bundle*.

        Raises:
            PricesError: there is none; the message lists the known ones.
        """
        known = [name.removeprefix("lightsail-") for name, one in self.price.items() if one.memory_mb]
        if bundle not in known:
            raise PricesError(
                f"Lightsail bundle {bundle}: {FILE.name} has no price of it; known: {', '.join(known)}"
            )
        return self[f"lightsail-{bundle}"]

    @property
    def oldest(self) -> date:
        """When the oldest price was read."""
        return min(one.read for one in self.price.values())

    def doubts(self, today: date, region: str) -> list[str]:
        """Why a bill with these prices may be wrong: lines for a person."""
        found = []
        old = sorted({one.page for one in self.price.values() if (today - one.read).days > MAX_DAYS})
        if old:
            found.append(
                f"{FILE.name}: prices read more than 12 months ago, the oldest on {self.oldest}: "
                f"{'; '.join(old)}; look there, and put the new figures and dates into the file"
            )
        if region != self.region:
            found.append(f"{FILE.name}: the prices are those of {self.region}, and {region} has its own")
        return found
