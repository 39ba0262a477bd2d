"""The zones that Route 53 has, and what is in them.

Source: Route 53 API Reference, ListHostedZones and ListResourceRecordSets.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from twinmail.dns.record_set import canonical
from twinmail.dns.wanted import home
from twinmail.errors import PermanentError


class ZoneError(PermanentError):
    """Which zone is meant cannot be said."""


@dataclass(frozen=True)
class StoredSet:
    """A record set in Route 53.

    Attributes:
        values: in the form of `twinmail.dns.record_set.canonical`; empty for an alias of AWS.
        identifier: of a set among several of one name and type; empty if it is alone.
        document: as Route 53 describes it.
    """

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]
    identifier: str
    document: dict[str, Any]

    @property
    def raw(self) -> tuple[str, ...]:
        """*values* as Route 53 writes them."""
        return tuple(one["Value"] for one in self.document.get("ResourceRecords", ()))

    @property
    def plain(self) -> bool:
        """Whether it is one that a zone file could hold."""
        return not self.identifier and "AliasTarget" not in self.document


@dataclass(frozen=True)
class HostedZone:
    """A public zone.

    Attributes:
        id: of Route 53, without a path.
        name: without the last dot.
        sets: everything in it.
    """

    id: str
    name: str
    sets: tuple[StoredSet, ...]

    @property
    def name_servers(self) -> tuple[str, ...]:
        """Those that answer for it; the registrar must lead to them."""
        return next((one.values for one in self.at(self.name) if one.type == "NS"), ())

    def at(self, name: str) -> tuple[StoredSet, ...]:
        """The sets with this name."""
        return tuple(one for one in self.sets if one.name == name)


def read(client: Any, names: Iterable[str]) -> tuple[HostedZone, ...]:
    """The public zones that any of *names* is in, with what is in them.

    Raises:
        ZoneError: there are two zones of one name.
    """
    found: dict[str, str] = {}
    doubles: dict[str, list[str]] = {}
    for page in client.get_paginator("list_hosted_zones").paginate():
        for one in page["HostedZones"]:
            if not one["Config"].get("PrivateZone"):
                name, id_ = one["Name"].rstrip(".").lower(), one["Id"].rpartition("/")[2]
                doubles.setdefault(name, []).append(id_)
                found[name] = id_
    needed = sorted({zone for name in names if (zone := home(name, found))})
    for zone in needed:
        if len(doubles[zone]) > 1:
            raise ZoneError(
                f"Route 53 has {len(doubles[zone])} zones {zone}: {', '.join(doubles[zone])}; "
                "delete those that the registrar does not lead to"
            )
    return tuple(HostedZone(found[zone], zone, tuple(_sets(client, found[zone]))) for zone in needed)


def _sets(client: Any, zone: str) -> Iterator[StoredSet]:
    for page in client.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone):
        for one in page["ResourceRecordSets"]:
            yield _stored(one)


def _stored(document: dict[str, Any]) -> StoredSet:
    kind, values = document["Type"], []
    for one in document.get("ResourceRecords", ()):
        try:
            values.append(canonical(kind, one["Value"]))
        except ValueError:
            # A type or a way of writing of Route 53's own: compared as it is.
            values.append(one["Value"])
    return StoredSet(
        name=document["Name"].rstrip(".").lower().replace("\\052", "*"),
        type=kind,
        ttl=int(document.get("TTL", 0)),
        values=tuple(values),
        identifier=document.get("SetIdentifier", ""),
        document=document,
    )
