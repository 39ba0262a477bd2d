"""``./inv cost``: what a month costs, line by line, beside the budget."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT
from twinmail.tasks.user import PLACE_HELP

TEMPLATE = PROJECT / "lambda" / "stack.yaml"
SMALL, THOUSAND = 0.01, 1000


@command(
    help={
        **PLACE_HELP,
        "actual": "measure the last 30 days in place of what [usage] assumes",
    }
)
def cost(
    context: Any,
    actual: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Compute the month and compare it with the budget. Exit code 1 if it is over."""
    from twinmail.config import Config
    from twinmail.cost.bill import bill
    from twinmail.cost.measure import Measurement
    from twinmail.cost.prices import Prices
    from twinmail.cost.quantities import month
    from twinmail.cost.resources import counted
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    prices, now = Prices.load(), datetime.now(UTC)
    doubts = prices.doubts(now.date(), loaded.region)
    used = month(loaded, *counted(TEMPLATE.read_text("utf-8"), loaded))
    if actual:
        system = place.find(loaded, state, aws)
        measurement = Measurement(loaded, system.session.client, now)
        used = measurement.of(used)
        doubts += measurement.problems
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)
    found = bill(loaded, used, prices)
    if json_:
        print(json.dumps(found.document()))
    else:
        _show(found, prices.oldest.isoformat(), loaded.budget.vat_percent)
    if found.over:
        text = f"{found.total:.2f} dollars a month, and the budget is {found.budget:.2f}"
        raise PermanentError("" if json_ else f"{text}; see above what costs most, or raise budget.month_usd")


def _show(found: Any, date: str, vat: float) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    lines = sorted(found.lines, key=lambda line: -line.amount)
    shown = [one for one in lines if one.amount >= SMALL]
    table = Table(box=None, pad_edge=False)
    table.add_column("$ a month", justify="right")
    table.add_column("for")
    table.add_column("of which", overflow="fold")
    for one in shown:
        known = "" if one.source == "configured" else f" ({one.source})"
        price = f"{one.unit_price:.10f}".rstrip("0").rstrip(".")
        many = f"{one.quantity:,.4g}" if one.quantity < THOUSAND else f"{one.quantity:,.0f}"
        note = f"; {one.note}" if one.note else ""
        table.add_row(
            f"{one.amount:.2f}", f"{one.service} {one.item}", f"{many} {one.unit}{known} at {price}{note}"
        )
    console.print(table)
    small = [one for one in lines if one not in shown]
    names = ", ".join(f"{one.service} {one.item}" for one in small)
    console.print(f"{sum(one.amount for one in small):9.2f} free, or less than a cent each: {names}")
    console.print(f"{found.total:9.2f} in all, of a budget of {found.budget:.2f}")
    console.print(f"{found.total_with_vat:9.2f} with {vat:g} % VAT")
    console.print(f"Prices without tax; the oldest was read on {date}.")
