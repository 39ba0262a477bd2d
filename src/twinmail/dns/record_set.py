"""All records of one name and type, which the DNS answers and changes together; pure.

Values are compared in one form (`canonical`): host names in lower case with a dot at their end, a TXT joined
from its strings and without quotes, addresses as the library writes them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.txtbase

from twinmail.client_profile.records import TTL, Record

STRING_OCTETS = 255
"""Of one string of a TXT, at most (RFC 1035, 3.3)."""


@dataclass(frozen=True)
class RecordSet:
    """A record set.

    Attributes:
        name: owner, fully qualified, without the last dot.
        values: in the form of `canonical`.
        purpose: who asks for it.
        ttl: seconds.
        any_one: one of *values* is answered, whichever serves at the moment.
    """

    name: str
    type: str
    values: tuple[str, ...]
    purpose: str
    ttl: int = TTL
    any_one: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by in the DNS."""
        return self.name, self.type


def sets(records: Iterable[Record]) -> tuple[RecordSet, ...]:
    """*records*, those of one name and type together, in the order of the first of each."""
    found: dict[tuple[str, str], RecordSet] = {}
    for one in records:
        name, value = one.name.lower().rstrip("."), canonical(one.type, zone_value(one.type, one.value))
        there = found.get((name, one.type))
        if there is None:
            found[name, one.type] = RecordSet(name, one.type, (value,), one.purpose, one.ttl)
        elif value not in there.values:
            found[name, one.type] = RecordSet(
                name, one.type, (*there.values, value), there.purpose, there.ttl
            )
    return tuple(found.values())


def zone_value(kind: str, value: str) -> str:
    """*value*, in the form of `canonical`, as a zone file and Route 53 have it (RFC 1035, 5.1)."""
    if kind != "TXT":
        return value
    octets = value.encode("latin-1", "replace")
    pieces = [octets[at : at + STRING_OCTETS] for at in range(0, len(octets), STRING_OCTETS)] or [b""]
    return " ".join(f'"{_escaped(one)}"' for one in pieces)


def canonical(kind: str, text: str) -> str:
    """The value *text* of a zone file, in the one form that can be compared.

    Raises:
        ValueError: *text* is no value of a record of the type *kind*.
    """
    try:
        data = dns.rdata.from_text(
            dns.rdataclass.IN, dns.rdatatype.from_text(kind), text, origin=dns.name.root, relativize=False
        )
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"{kind} {text!r}: {error}") from error
    return of_data(data)


def of_data(data: dns.rdata.Rdata) -> str:
    """The value *data*, as it came in an answer, in the form of `canonical`."""
    if isinstance(data, dns.rdtypes.txtbase.TXTBase):
        return b"".join(data.strings).decode("latin-1")
    text = data.to_text()
    return text if data.rdtype == dns.rdatatype.CAA else text.lower()


def named(found: Sequence[RecordSet], name: str, kind: str) -> RecordSet | None:
    """The set of *found* with this name and type, if it is there."""
    return next((one for one in found if one.key == (name, kind)), None)


def _escaped(octets: bytes) -> str:
    # Printable ASCII stands for itself, but for what ends a string or begins an escape.
    return "".join(
        f"\\{chr(one)}" if one in b'"\\' else chr(one) if 0x20 <= one < 0x7F else f"\\{one:03d}"
        for one in octets
    )
