"""How much of everything a month needs: the model behind the bill.

What the servers ask for by the clock is most of what S3 is asked for, so their beats stand here, and a test
compares them with the syncer's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from twinmail.config import Config
from twinmail.production import Lightsail

DAYS = 30.4375
SECONDS = DAYS * 86400
GIB = 1 << 30

POLL_SECONDS = 60.0
SETTINGS_SECONDS = 300.0
ACCOUNTS_SECONDS = 20.0
SENT_SECONDS, SENT_DAYS = 600.0, 3
DECISIONS_SECONDS, DECISIONS_DAYS = 1800.0, 3
RECEIVE_SECONDS = 20.0
RECONCILE_SECONDS, RECONCILE_TURNS, RECONCILE_DAYS = 900.0, 96, 3
"""A turn of the reconciler, turns in which it lists all messages, and days for which it looks at each."""
LIST_KEYS = 1000
PACK_DAYS, PACK_LEAST = 35, 8 << 20
"""Days of the log that each turn of the compactor lists, once a month all of it; octets of a pack."""
PACK_GB, PACK_SECONDS, PACK_MESSAGE_SECONDS = 1.0, 5.0, 0.1
"""Memory of the compactor, GiB; seconds of its turn, and for each message that it packs."""

COPIES = 2
"""Of each message in the bucket: as SES stored it, and for IMAP."""
RECORD_KB = 2.0
"""An entry of the manifest, or an item of the index with its copy in the index by id."""
FUNCTION_MB = 256
FUNCTION_SECONDS = 1.5
LOG_KB = 2.0
QUERIES_PER_MESSAGE = 20.0
"""Questions to our name servers that a message leads to: MX, SPF, DKIM, DMARC and clients."""
SYSTEM_GB = 4.0
"""Used disk of a machine without mail: Debian, the container engine, the images."""
SNAPSHOTS = 7
DAILY_GB = 0.15
"""What a day changes on a disk besides mail: logs, indexes, packages."""
CUSTOM_METRICS = 4
"""Bounce and complaint rate of the configuration set, findings of the reconciler, entries packed."""
ASSUMED, CONFIGURED, MEASURED = "assumed", "configured", "measured"
_CONFIGURED = ("bundles", "alarms", "metrics", "budgets", "zones", "health_checks")


@dataclass(frozen=True)
class Quantities:
    """What a month uses.

    Attributes:
        messages_in, messages_out: messages.
        message_gb: mean size of a message, GiB.
        bucket_gb, table_gb: what is stored, GiB.
        tags: of objects that are in a pack.
        snapshot_gb: of all machines.
        bundles: Lightsail bundles, one a machine.
        transfer_gb: from AWS to servers elsewhere.
        sending_plan: SES's, in the words of its API; new accounts have this one.
        sources: for a name above, how it is known; `ASSUMED` if it is not there.
    """

    messages_in: float
    messages_out: float
    message_gb: float
    bucket_gb: float
    s3_writes: float
    s3_reads: float
    tags: float
    table_gb: float
    table_writes: float
    table_reads: float
    function_calls: float
    function_gb_seconds: float
    queue_requests: float
    notices: float
    log_gb: float
    alarms: float
    metrics: float
    budgets: float
    transfer_gb: float
    snapshot_gb: float
    bundles: tuple[str, ...]
    zones: float
    zone_queries: float
    health_checks: float
    sending_plan: str = "ESSENTIALS"
    sources: Mapping[str, str] = field(default_factory=dict)

    def measured(self, **values: object) -> "Quantities":
        """With *values* that were measured in the place of assumed ones."""
        sources = {**self.sources, **dict.fromkeys(values, MEASURED)}
        return replace(self, **values, sources=sources)  # type: ignore[arg-type]

    def source(self, name: str) -> str:
        """How *name* is known."""
        return self.sources.get(name, ASSUMED)


def month(config: Config, alarms: int, budgets: int = 1) -> Quantities:
    """What *config* and its table ``[usage]`` lead to; *alarms* and *budgets* are those of the stack."""
    usage, servers = config.usage, len(config.servers)
    size = usage.message_kb / (1 << 20)
    incoming, outgoing = float(usage.messages_in), float(usage.messages_out)
    # Both servers fetch what is new; a sent message is announced, and its record read.
    events = incoming + outgoing
    stored = usage.stored_gb / size if size else 0.0
    turns = SECONDS / RECONCILE_SECONDS
    # Once when SES's notice is due, and once a day while it is young.
    looks = incoming * (1 + RECONCILE_DAYS)
    packs = _packs(config, stored, size)
    machines = [one.lightsail for one in config.servers.values() if one.lightsail]
    elsewhere = servers - len(machines)
    return Quantities(
        messages_in=incoming,
        messages_out=outgoing,
        message_gb=size,
        bucket_gb=usage.stored_gb * COPIES + stored * RECORD_KB / (1 << 20) + packs.gb,
        s3_writes=incoming * 3
        + outgoing
        + servers * listings()
        + turns * (1 + stored / RECONCILE_TURNS / LIST_KEYS)
        + packs.writes,
        s3_reads=incoming
        + looks
        + servers * (2 * incoming + outgoing + SECONDS / ACCOUNTS_SECONDS)
        + packs.reads,
        tags=packs.tags,
        table_gb=stored * 2 * RECORD_KB / (1 << 20),
        # The claim and the item, and the latter once more in the index by id.
        table_writes=incoming * (1 + 2 * RECORD_KB),
        table_reads=incoming * 2 + looks,
        function_calls=events + turns,
        function_gb_seconds=(events + turns) * FUNCTION_SECONDS * FUNCTION_MB / 1024 + packs.gb_seconds,
        queue_requests=servers * (SECONDS / RECEIVE_SECONDS + 2 * events) + turns + 2 * incoming,
        notices=2 * events + incoming,
        log_gb=(events + turns) * LOG_KB / (1 << 20),
        alarms=float(alarms),
        metrics=float(CUSTOM_METRICS),
        budgets=float(budgets),
        transfer_gb=elsewhere * incoming * size,
        snapshot_gb=sum(_snapshots(one, usage.stored_gb, incoming * size) for one in machines),
        bundles=tuple(one.bundle for one in machines),
        zones=float(len(config.domains) if config.dns.route53 else 0),
        zone_queries=events * QUERIES_PER_MESSAGE if config.dns.route53 else 0.0,
        # The last server of a fail-over record needs none: it answers when no other does.
        health_checks=float(max(0, servers - 1) if config.dns.failover else 0),
        sources=dict.fromkeys(_CONFIGURED, CONFIGURED),
    )


@dataclass(frozen=True)
class _Packs:
    """What packs add to a month; *gb* may be below zero."""

    gb: float = 0.0
    writes: float = 0.0
    reads: float = 0.0
    tags: float = 0.0
    gb_seconds: float = 0.0


def _packs(config: Config, stored: float, size: float) -> _Packs:
    """The packs of *stored* messages of *size* GiB."""
    if not config.packs.enabled:
        return _Packs()
    incoming = float(config.usage.messages_in)
    days = config.packs.expire_originals_days
    # Of what is packed the originals go at that age, and what is one copy in packs is one less elsewhere.
    originals = min(stored, incoming * days / DAYS) if days else stored
    each = size + RECORD_KB / 2 / (1 << 20)
    waiting = min(PACK_LEAST / GIB / each, incoming * config.packs.wait_days / DAYS) / 2
    listed = DAYS * (1 + incoming * PACK_DAYS / DAYS / LIST_KEYS) + originals / LIST_KEYS
    return _Packs(
        gb=originals * each,
        writes=2 * incoming + incoming * each * GIB / PACK_LEAST * 3 + 2 * DAYS + listed,
        reads=2 * incoming + DAYS * waiting,
        tags=2 * originals,
        gb_seconds=PACK_GB * (DAYS * PACK_SECONDS + incoming * PACK_MESSAGE_SECONDS),
    )


def listings() -> float:
    """LIST requests of one server in a month, by the clock."""
    return SECONDS * (
        1 / POLL_SECONDS
        + 1 / SETTINGS_SECONDS
        + SENT_DAYS / SENT_SECONDS
        + DECISIONS_DAYS / DECISIONS_SECONDS
    )


def _snapshots(machine: Lightsail, stored_gb: float, month_gb: float) -> float:
    """GiB of the snapshots of *machine*: the whole used disk once, and the changes of the other days."""
    return SYSTEM_GB + stored_gb + (SNAPSHOTS - 1) * (DAILY_GB + month_gb / DAYS)
