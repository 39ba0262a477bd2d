"""The bill: quantities times prices, line by line, beside the budget. Pure."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twinmail.config import Config
from twinmail.cost.prices import Price, Prices
from twinmail.cost.quantities import Quantities
from twinmail.production import Budget

_DIGITS = 6
# SES's plans that cost something before the first message.
_FEES = ("pro", "enterprise")


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        quantity: units of the month, those that are free included.
        unit_price: dollars for one unit beyond the free ones.
        amount: dollars, without tax.
        source: how the quantity is known: configured, assumed or measured.
    """

    service: str
    item: str
    quantity: float
    unit: str
    unit_price: float
    amount: float
    source: str
    note: str


@dataclass(frozen=True)
class Bill:
    """What a month costs.

    Attributes:
        total: dollars, without tax: the sum of the lines.
        budget: dollars, without tax.
    """

    total: float
    total_with_vat: float
    budget: float
    lines: tuple[Line, ...]

    @property
    def over(self) -> bool:
        """Whether the month costs more than it may."""
        return self.total > self.budget

    def document(self) -> Mapping[str, Any]:
        """The bill for scripts."""
        return asdict(self)


def bill(config: Config, quantities: Quantities, prices: Prices) -> Bill:
    """What *quantities* cost.

    Raises:
        PricesError: something has no price.
    """
    lines = tuple(_lines(quantities, prices))
    return total(lines, config.budget)


def total(lines: tuple[Line, ...], budget: Budget) -> Bill:
    """The bill with *lines*."""
    amount = round(math.fsum(one.amount for one in lines), _DIGITS)
    taxed = round(amount * (1 + budget.vat_percent / 100), _DIGITS)
    return Bill(amount, taxed, budget.month_usd, lines)


def _lines(used: Quantities, prices: Prices) -> list[Line]:
    def line(service: str, item: str, field: str, price: Price, quantity: float | None = None) -> Line:
        many = float(getattr(used, field)) if quantity is None else quantity
        return Line(
            service,
            item,
            round(many, _DIGITS),
            price.unit,
            price.usd,
            round(price.of(many), _DIGITS),
            used.source(field),
            _note(price),
        )

    plan = used.sending_plan.lower()
    fees = (
        [line("SES", f"plan {plan}", "sending_plan", prices[f"ses-plan-{plan}"], 1.0)]
        if plan in _FEES
        else []
    )
    machines = [
        line("Lightsail", f"machine {bundle}", "bundles", prices.plan(bundle), 1.0) for bundle in used.bundles
    ]
    return [
        *machines,
        *fees,
        line("Lightsail", "snapshots", "snapshot_gb", prices["lightsail-snapshot"]),
        line("SES", "received", "messages_in", prices["ses-in"]),
        line(
            "SES",
            "received data",
            "messages_in",
            prices["ses-in-data"],
            used.messages_in * used.message_gb * (1 << 12),
        ),
        line("SES", "sent", "messages_out", prices[f"ses-out-{plan}"]),
        line("SES", "sent data", "messages_out", prices["ses-out-data"], used.messages_out * used.message_gb),
        line("S3", "storage", "bucket_gb", prices["s3-storage"]),
        line("S3", "PUT and LIST", "s3_writes", prices["s3-write"]),
        line("S3", "GET", "s3_reads", prices["s3-read"]),
        line("S3", "tags of what is packed", "tags", prices["s3-tag"]),
        line("S3", "transfer to servers elsewhere", "transfer_gb", prices["transfer"]),
        line("DynamoDB", "writes", "table_writes", prices["dynamodb-write"]),
        line("DynamoDB", "reads", "table_reads", prices["dynamodb-read"]),
        line("DynamoDB", "storage", "table_gb", prices["dynamodb-storage"]),
        line("DynamoDB", "backup", "table_gb", prices["dynamodb-backup"]),
        line("Lambda", "calls", "function_calls", prices["lambda-request"]),
        line("Lambda", "time", "function_gb_seconds", prices["lambda-time"]),
        line("SQS", "requests", "queue_requests", prices["sqs"]),
        line("SNS", "notices", "notices", prices["sns"]),
        line("CloudWatch", "logs", "log_gb", prices["logs"]),
        line("CloudWatch", "alarms", "alarms", prices["alarm"]),
        line("CloudWatch", "metrics of our own", "metrics", prices["metric"]),
        line("Budgets", "budget", "budgets", prices["budget"]),
        line("Route 53", "zones", "zones", prices["route53-zone"]),
        line("Route 53", "queries", "zone_queries", prices["route53-query"]),
        line("Route 53", "health checks", "health_checks", prices["route53-health"]),
    ]


def _note(price: Price) -> str:
    free = f"{price.free:,.0f} a month are free" if price.free else ""
    return "; ".join(part for part in (free, price.note) if part)
