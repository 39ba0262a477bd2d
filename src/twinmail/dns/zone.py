"""The records as a fragment of a zone file, which providers of DNS import."""

from collections.abc import Sequence

from twinmail.dns.record_set import RecordSet, zone_value
from twinmail.dns.wanted import FAILOVER_TTL, Wanted, home
from twinmail.template import Templates

_render = Templates("twinmail.dns", escaped=False).render


def fragment(wanted: Wanted, domains: Sequence[str]) -> str:
    """*wanted*, by domain: a name belongs to the longest of *domains* that it is below."""
    fixed = [one for one in wanted.sets if not one.any_one]
    homes = {one.key: home(one.name, domains) for one in fixed}
    name_width = max((len(one.name) for one in fixed), default=0) + 1
    value_width = max((len(value) for one in fixed for value in _values(one)), default=0)

    def line(one: RecordSet, value: str) -> str:
        left = f"{one.name + '.':<{name_width}} {one.ttl:<5} IN {one.type:<5}"
        return f"{left} {value:<{value_width}} ; {one.purpose}"

    def lines(of: str | None) -> list[str]:
        return [line(one, value) for one in fixed if homes[one.key] == of for value in _values(one)]

    return _render(
        "zone.j2",
        domains=[(domain, lines(domain)) for domain in domains],
        elsewhere=lines(None),
        failover=wanted.failover,
        ttl=FAILOVER_TTL,
        gaps=wanted.gaps,
    )


def _values(one: RecordSet) -> tuple[str, ...]:
    # A long TXT is of many strings, which readers of zone files take as one line.
    return tuple(zone_value(one.type, value) for value in one.values)
