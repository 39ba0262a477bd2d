"""What Route 53 must change, so that it has the records; pure.

A record set is replaced only if everything in it can be ours (`twinmail.dns.ownership`). TXT and CAA records
of others at the same name stay beside ours. All else in the way is a conflict, for a person to decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinmail.certificate.names import FAILOVER
from twinmail.config import Config
from twinmail.dns import health_check, value
from twinmail.dns.health_check import HealthCheck
from twinmail.dns.hosted_zone import HostedZone, StoredSet
from twinmail.dns.ownership import is_ours
from twinmail.dns.record_set import RecordSet, zone_value
from twinmail.dns.wanted import Wanted, home

PRIMARY, SECONDARY = "PRIMARY", "SECONDARY"
_SHARED = ("TXT", "CAA")


@dataclass(frozen=True)
class Change:
    """One change of one record set.

    Attributes:
        zone: id of the zone.
        action: ``UPSERT`` or ``DELETE``.
        document: the record set, as Route 53 takes it.
        before: what is there now, in words; empty if nothing is.
        checked: whether the health check belongs to it; its id may not be known before it is made.
    """

    zone: str
    action: str
    document: dict[str, Any]
    before: str = ""
    checked: bool = False

    @property
    def line(self) -> str:
        """For people."""
        kind, name = self.document["Type"], self.document["Name"].rstrip(".")
        after = ", ".join(one["Value"] for one in self.document["ResourceRecords"])
        role = (
            f" ({self.document['Failover'].lower()} of the fail-over)" if "Failover" in self.document else ""
        )
        if self.action == "DELETE":
            return f"remove {kind:<5} {name}{role}: {after}"
        return f"{'change' if self.before else 'add   '} {kind:<5} {name}{role}: " + (
            f"{self.before} becomes {after}" if self.before else after
        )


@dataclass(frozen=True)
class Conflict:
    """What is in the way of a record, and is not ours.

    Attributes:
        got: what is there.
        remedy: what its owner can do.
    """

    name: str
    type: str
    got: str
    remedy: str

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.type:<5} {self.name}: {self.got}; {self.remedy}"


@dataclass(frozen=True)
class Plan:
    """What would change.

    Attributes:
        homeless: record sets whose zone Route 53 does not have.
        check: the HealthCheckConfig that is wanted; None if none is.
        kept: the health check to go on with, if there is one.
        surplus: health checks to delete, after everything else.
        name_servers: of each zone; the registrar must lead to them.
    """

    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]
    homeless: tuple[RecordSet, ...]
    check: dict[str, Any] | None = None
    kept: HealthCheck | None = None
    surplus: tuple[HealthCheck, ...] = ()
    name_servers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def lines(self) -> tuple[str, ...]:
        """One line a change; none if everything is as it should be."""
        found = []
        if self.check:
            where = f"{self.check['FullyQualifiedDomainName']}, TCP port {self.check['Port']}"
            if self.kept is None:
                found.append(f"add    health check of {where}, which costs money each month: ./inv cost")
            elif health_check.differs(self.kept, self.check):
                found.append(f"change health check {self.kept.id}: {where}")
        found += [one.line for one in self.changes]
        return (*found, *(f"remove health check {one.id}" for one in self.surplus))


def names(config: Config, wanted: Wanted) -> tuple[str, ...]:
    """Every name at which something may have to change."""
    former = [f"{FAILOVER}.{domain}" for domain in config.domains]
    return tuple(dict.fromkeys([*(one.name for one in wanted.sets), *former]))


def plan(config: Config, wanted: Wanted, zones: Sequence[HostedZone], checks: Sequence[HealthCheck]) -> Plan:
    """The changes that make *zones* have what is *wanted*.

    Args:
        checks: those that were made for *config*.
    """
    by_name = {one.name: one for one in zones}
    changes: list[Change] = []
    conflicts: list[Conflict] = []
    homeless: list[RecordSet] = []
    check = health_check.wanted(wanted.failover) if wanted.failover else None
    suitable = [one for one in checks if check and health_check.suits(one, check)]
    kept = suitable[0] if suitable else None
    led = False
    for record in wanted.sets:
        zone = by_name.get(home(record.name, by_name) or "")
        if zone is None:
            homeless.append(record)
            continue
        found = _failover(config, record, zone, kept) if record.any_one else _simple(config, record, zone)
        if isinstance(found, Conflict):
            conflicts.append(found)
            continue
        led = led or record.any_one
        changes += found
    if not led:
        # Nothing would ask it.
        check = kept = None
    if config.dns.failover and wanted.failover is None:
        # Wanted, but impossible as things are: what was made before stays.
        checks = ()
    elif not config.dns.failover:
        changes = [*_former(config, zones), *changes]
    surplus = tuple(one for one in checks if kept is None or one.id != kept.id)
    name_servers = {one.name: one.name_servers for one in zones}
    return Plan(tuple(changes), tuple(conflicts), tuple(homeless), check, kept, surplus, name_servers)


def _simple(config: Config, record: RecordSet, zone: HostedZone) -> list[Change] | Conflict:
    there = zone.at(record.name)
    blocking = _blocking(record, there)
    if blocking is not None:
        return _conflict(record, blocking, "remove it in Route 53, if it may go, and run this again")
    present = next((one for one in there if one.type == record.type), None)
    if present is None:
        return [_upsert(record, zone, [zone_value(record.type, one) for one in record.values])]
    if record.type in _SHARED:
        return _beside(config, record, zone, present)
    absent = [
        one for one in record.values if not any(value.does(record.type, one, it) for it in present.values)
    ]
    strange = [
        one for one in present.values if not any(value.does(record.type, it, one) for it in record.values)
    ]
    if not absent and not strange:
        return []
    if not all(is_ours(config, record, one) for one in strange):
        return _conflict(record, present, "it is not twinmail's; remove it, if it may go, and run this again")
    return [_upsert(record, zone, [zone_value(record.type, one) for one in record.values], present)]


def _beside(
    config: Config, record: RecordSet, zone: HostedZone, present: StoredSet
) -> list[Change] | Conflict:
    """Ours, beside what others have in the same set."""
    want = record.values[0]
    kind = value.protocol(want)
    same = [one for one in present.values if record.type == "TXT" and value.protocol(one) == kind]
    fits = [one for one in (same or present.values) if value.does(record.type, want, one)]
    if fits and len(same) <= 1:
        return []
    if not all(is_ours(config, record, one) for one in same):
        part = want if kind != value.SPF else want.split()[1]
        return _conflict(record, present, f"it is not twinmail's; write {part} into it, or remove it")
    raw = [one for one, text in zip(present.raw, present.values, strict=True) if text not in same]
    return [_upsert(record, zone, [*raw, zone_value(record.type, want)], present)]


def _failover(
    config: Config, record: RecordSet, zone: HostedZone, kept: HealthCheck | None
) -> list[Change] | Conflict:
    there = zone.at(record.name)
    strangers = [one for one in there if not _is_failover(config, one)]
    if strangers:
        return _conflict(record, strangers[0], "the fail-over needs this name alone; remove it")
    changes = []
    for role, target in zip((PRIMARY, SECONDARY), record.values, strict=True):
        document = {
            "Name": f"{record.name}.",
            "Type": record.type,
            "SetIdentifier": _identifier(config, role),
            "Failover": role,
            "TTL": record.ttl,
            "ResourceRecords": [{"Value": target}],
        }
        checked = role == PRIMARY
        complete = document | ({"HealthCheckId": kept.id} if checked and kept else {})
        present = next((one for one in there if one.identifier == document["SetIdentifier"]), None)
        if present is None or present.document != complete or (checked and kept is None):
            before = ", ".join(present.values) if present else ""
            changes.append(Change(zone.id, "UPSERT", document, before, checked))
    return changes


def _former(config: Config, zones: Sequence[HostedZone]) -> list[Change]:
    """Fail-over sets that were made earlier, and are not wanted any more."""
    wanted_names = {f"{FAILOVER}.{domain}" for domain in config.domains}
    return [
        Change(zone.id, "DELETE", one.document)
        for zone in zones
        for one in zone.sets
        if one.name in wanted_names and _is_failover(config, one)
    ]


def _is_failover(config: Config, one: StoredSet) -> bool:
    return one.type == "CNAME" and one.identifier in (
        _identifier(config, PRIMARY),
        _identifier(config, SECONDARY),
    )


def _identifier(config: Config, role: str) -> str:
    return f"{config.stack}-{role.lower()}"


def _blocking(record: RecordSet, there: Sequence[StoredSet]) -> StoredSet | None:
    for one in there:
        if one.type == record.type:
            if not one.plain:
                return one
        elif "CNAME" in (record.type, one.type):
            # A CNAME stands alone at its name (RFC 1034, 3.6.2).
            return one
    return None


def _conflict(record: RecordSet, present: StoredSet, remedy: str) -> Conflict:
    values = ", ".join(present.raw) or "an alias of AWS"
    how = f" (set {present.identifier})" if present.identifier else ""
    return Conflict(record.name, record.type, f"{present.type} {values}{how} is there", remedy)


def _upsert(
    record: RecordSet, zone: HostedZone, values: Sequence[str], present: StoredSet | None = None
) -> Change:
    shared = present is not None and record.type in _SHARED
    document = {
        "Name": f"{record.name}.",
        "Type": record.type,
        "TTL": present.ttl if present and shared else record.ttl,
        "ResourceRecords": [{"Value": one} for one in values],
    }
    return Change(zone.id, "UPSERT", document, ", ".join(present.raw) if present else "")
