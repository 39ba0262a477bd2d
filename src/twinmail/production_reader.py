"""Reads what the configuration says of production; part of `twinmail.config_reader.Reader`."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from twinmail.production import (
    COMPONENTS,
    DMARC_POLICIES,
    Budget,
    Dns,
    Kubernetes,
    Lightsail,
    Packs,
    Retention,
    Usage,
)

MACHINE = ("addresses", "lightsail", "kubernetes")
"""Keys of a server that say where it runs."""

_NAME = re.compile(r"([A-Za-z0-9_-]{1,63}\.)+[A-Za-z0-9-]{1,63}\.?")
_ADDRESS = re.compile(r"[^@\s]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_BLUEPRINT = re.compile(r"(debian|ubuntu)_[0-9_]{1,8}")
_ZONE = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9][a-z]")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# A context may have an account's whole ARN, an address or a path for a name.
_CONTEXT = re.compile(r"[^\s]{0,253}")
_REGISTRY = re.compile(r"([a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9._-]+)*)?")
_NODE = re.compile(r"(ssh://)?([A-Za-z0-9._-]+@)?[A-Za-z0-9\[][A-Za-z0-9.:\[\]_%-]*/?")
_CLASS = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?")
EXPIRE_DAYS = 30
"""Originals of packs stay at least so long: time to notice that a pack is not what it should be."""

# CloudWatch Logs API, PutRetentionPolicy.
LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288)


class ProductionReader:
    """Turns tables into dataclasses; *problem* takes the key and what is wrong with its value."""

    def __init__(self, problem: Callable[[str, str], None]) -> None:
        self._problem = problem

    def operator(self, value: Any) -> str | None:
        """The operator's address."""
        if value is None or (isinstance(value, str) and _ADDRESS.fullmatch(value)):
            return value
        self._problem("operator", f"expected an address that you read, got {value!r}")
        return None

    def budget(self, value: Any) -> Budget:
        """The table ``[budget]``."""
        table = self._table("budget", value, Budget)
        month = self._number("budget.month_usd", table, Budget.month_usd, 0.01, 100_000)
        return Budget(month, self._number("budget.vat_percent", table, Budget.vat_percent, 0, 100))

    def retention(self, value: Any) -> Retention:
        """The table ``[retention]``."""
        table = self._table("retention", value, Retention)
        logs = table.get("log_days", Retention.log_days)
        if type(logs) is not int or logs not in LOG_DAYS:
            numbers = ", ".join(map(str, LOG_DAYS))
            self._problem("retention.log_days", f"expected one of {numbers}, got {logs!r}")
            logs = Retention.log_days
        return Retention(
            logs,
            self._integer("retention.deleted_days", table, Retention.deleted_days, 1, 3650),
            self._integer("retention.archive_days", table, Retention.archive_days, 0, 3650),
        )

    def packs(self, value: Any) -> Packs:
        """The table ``[packs]``."""
        table = self._table("packs", value, Packs)
        days = table.get("expire_originals_days", Packs.expire_originals_days)
        if type(days) is not int or not (days == 0 or EXPIRE_DAYS <= days <= 3650):
            self._problem(
                "packs.expire_originals_days",
                f"expected 0 (never) or a whole number {EXPIRE_DAYS} to 3650, got {days!r}",
            )
            days = Packs.expire_originals_days
        return Packs(
            self._switch("packs.enabled", table, Packs.enabled),
            self._integer("packs.wait_days", table, Packs.wait_days, 1, 3650),
            days,
        )

    def dns(self, value: Any) -> Dns:
        """The table ``[dns]``."""
        table = self._table("dns", value, Dns)
        dmarc = table.get("dmarc", Dns.dmarc)
        if dmarc not in DMARC_POLICIES:
            self._problem("dns.dmarc", f"expected {' or '.join(DMARC_POLICIES)}, got {dmarc!r}")
            dmarc = Dns.dmarc
        return Dns(
            self._switch("dns.route53", table, Dns.route53),
            self._switch("dns.failover", table, Dns.failover),
            dmarc,
            self._text("dns.mail_from", table, Dns.mail_from, _LABEL, "a label such as bounce"),
        )

    def usage(self, value: Any) -> Usage:
        """The table ``[usage]``."""
        table = self._table("usage", value, Usage)
        return Usage(
            self._integer("usage.messages_in", table, Usage.messages_in, 0, 10**8),
            self._integer("usage.messages_out", table, Usage.messages_out, 0, 10**8),
            self._number("usage.stored_gb", table, Usage.stored_gb, 0, 10**6),
            self._number("usage.message_kb", table, Usage.message_kb, 0.1, 40 * 1024),
        )

    def machine(self, prefix: str, server: Mapping[str, Any], region: str) -> dict[str, Any]:
        """The values of `MACHINE` in the table *server*, for `twinmail.config.Server`, all in *region*."""
        machine: dict[str, Any] = {"addresses": self._addresses(f"{prefix}addresses", server)}
        if "lightsail" in server and "kubernetes" in server:
            self._problem(f"{prefix}kubernetes", "a server runs in one place; lightsail is given too")
        if "lightsail" in server:
            machine["lightsail"] = self._lightsail(f"{prefix}lightsail", server["lightsail"], region)
        if "kubernetes" in server:
            machine["kubernetes"] = self._kubernetes(f"{prefix}kubernetes", server["kubernetes"])
        return machine

    def _lightsail(self, key: str, value: Any, region: str) -> Lightsail:
        table = self._table(key, value, Lightsail)
        zone = self._text(f"{key}.zone", table, f"{region}a", _ZONE, "a zone such as eu-central-1a")
        if not zone.startswith(region):
            self._problem(f"{key}.zone", f"expected a zone of {region}, as 'region' says, got {zone!r}")
        networks = self._strings(f"{key}.ssh_from", table.get("ssh_from", []))
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                self._problem(f"{key}.ssh_from", f"expected networks such as 203.0.113.7/32, got {network!r}")
        return Lightsail(
            self._text(f"{key}.bundle", table, Lightsail.bundle, _WORD, "a Lightsail bundle"),
            self._text(f"{key}.blueprint", table, Lightsail.blueprint, _BLUEPRINT, "debian_… or ubuntu_…"),
            zone,
            networks,
            self._integer(f"{key}.snapshot_hour", table, Lightsail.snapshot_hour, 0, 23),
        )

    def _kubernetes(self, key: str, value: Any) -> Kubernetes:
        table = self._table(key, value, Kubernetes)
        components = self._strings(f"{key}.components", table.get("components", []))
        for one in components:
            if one not in COMPONENTS:
                self._problem(f"{key}.components", f"unknown {one!r}; known: {', '.join(COMPONENTS)}")
        nodes = self._strings(f"{key}.nodes", table.get("nodes", []))
        for node in nodes:
            if not _NODE.fullmatch(node):
                self._problem(f"{key}.nodes", f"expected NAME, USER@NAME or ssh://USER@NAME, got {node!r}")
        if nodes and table.get("registry"):
            self._problem(f"{key}.registry", "images come from one place; nodes are given too")
        return Kubernetes(
            self._text(f"{key}.context", table, Kubernetes.context, _CONTEXT, "a name of your kubeconfig"),
            self._text(f"{key}.namespace", table, Kubernetes.namespace, _NAMESPACE, "a DNS label"),
            self._text(f"{key}.storage_class", table, Kubernetes.storage_class, _CLASS, "a storage class"),
            self._integer(f"{key}.storage_gb", table, Kubernetes.storage_gb, 1, 1 << 20),
            components,
            self._text(f"{key}.registry", table, "", _REGISTRY, "HOST[:PORT][/PATH], in lower case"),
            nodes,
        )

    def _addresses(self, key: str, server: Mapping[str, Any]) -> tuple[str, ...]:
        found = self._strings(key, server.get("addresses", []))
        names = [one for one in found if not _is_ip(one)]
        for name in names:
            if len(found) > 1 or not _NAME.fullmatch(name):
                self._problem(key, f"expected IP addresses, or one host name alone, got {name!r}")
        return found

    def _table(self, key: str, value: Any, shape: type) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._problem(key, f"expected a table, got {value!r}")
            return {}
        known = tuple(shape.__dataclass_fields__)  # type: ignore[attr-defined]
        for name in value:
            if name not in known:
                self._problem(f"{key}.{name}", f"unknown key; known here: {', '.join(known)}")
        return value

    def _strings(self, key: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        self._problem(key, f"expected a list of strings, got {value!r}")
        return ()

    def _text(
        self, key: str, table: Mapping[str, Any], default: str, pattern: re.Pattern[str], expected: str
    ) -> str:
        value = table.get(key.rpartition(".")[2], default)
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self._problem(key, f"expected {expected}, got {value!r}")
        return default

    def _switch(self, key: str, table: Mapping[str, Any], default: bool) -> bool:
        value = table.get(key.rpartition(".")[2], default)
        if isinstance(value, bool):
            return value
        self._problem(key, f"expected true or false, got {value!r}")
        return default

    def _integer(self, key: str, table: Mapping[str, Any], default: int, low: int, high: int) -> int:
        value = table.get(key.rpartition(".")[2], default)
        if type(value) is int and low <= value <= high:
            return value
        self._problem(key, f"expected a whole number {low} to {high}, got {value!r}")
        return default

    def _number(self, key: str, table: Mapping[str, Any], default: float, low: float, high: float) -> float:
        value = table.get(key.rpartition(".")[2], default)
        if type(value) in (int, float) and low <= value <= high:
            return float(value)
        self._problem(key, f"expected a number {low} to {high}, got {value!r}")
        return default


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
