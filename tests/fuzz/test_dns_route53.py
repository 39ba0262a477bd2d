"""Route 53, whatever is in the zones before: one run completes it, and nothing of others is lost."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dns_example import CONFIG, KNOWN, WANTED, with_dns
from twinmail.config import Config
from twinmail.dns.health_check import HealthCheck
from twinmail.dns.health_check import wanted as wanted_check
from twinmail.dns.hosted_zone import HostedZone, StoredSet
from twinmail.dns.ownership import is_ours
from twinmail.dns.record_set import canonical, named
from twinmail.dns.route53 import Plan, plan
from twinmail.dns.wanted import home, wanted

FAILOVER = with_dns(failover=True)
NAMES = sorted({one.name for one in wanted(FAILOVER, KNOWN).sets})
VALUES = {
    "A": ["192.0.2.1", "198.51.100.7"],
    "AAAA": ["2001:db8::1"],
    "CNAME": ["old.example.", "backup.example.org.", "primary.example.org."],
    "MX": [
        "10 old.example.",
        "10 inbound-smtp.eu-west-1.amazonaws.com.",
        "10 inbound-smtp.eu-central-1.amazonaws.com.",
    ],
    "SRV": ["0 1 993 old.example.", "0 0 0 .", "0 1 465 backup.example.org."],
    "CAA": [
        '0 issue ";"',
        '0 issue "other.example"',
        '0 issue "letsencrypt.org"',
        '0 iodef "mailto:a@b.example"',
    ],
    "TXT": [
        '"verification=1"',
        '"v=spf1 -all"',
        '"v=spf1 include:amazonses.com -all"',
        '"v=spf1 a include:amazonses.com ~all"',
        '"v=DMARC1; p=none"',
        '"v=DMARC1; p=none; sp=reject"',
        '"v=STSv1; id=1"',
    ],
}

Stored = tuple[str, str, tuple[str, ...]]
stored = st.sampled_from(sorted(VALUES)).flatmap(
    lambda kind: st.tuples(
        st.sampled_from(NAMES),
        st.just(kind),
        st.lists(st.sampled_from(VALUES[kind]), min_size=1, unique=True).map(tuple),
    )
)


def one_set(name: str, kind: str, values: Sequence[str]) -> StoredSet:
    document = {
        "Name": f"{name}.",
        "Type": kind,
        "TTL": 60,
        "ResourceRecords": [{"Value": one} for one in values],
    }
    return StoredSet(name, kind, 60, tuple(canonical(kind, one) for one in values), "", document)


def zones_of(found: Sequence[Stored]) -> list[HostedZone]:
    """Both zones, with the first set of each name and type."""
    unique = {(name, kind): one_set(name, kind, values) for name, kind, values in reversed(found)}
    return [
        HostedZone(
            domain, domain, tuple(one for one in unique.values() if home(one.name, CONFIG.domains) == domain)
        )
        for domain in CONFIG.domains
    ]


def after(zones: Sequence[HostedZone], done: Plan) -> list[HostedZone]:
    """The zones, once the changes of *done* are made; the health check is ``H1``."""

    def changed(zone: HostedZone) -> HostedZone:
        sets = {(one.name, one.type, one.identifier): one for one in zone.sets}
        for one in done.changes:
            if one.zone != zone.id:
                continue
            document = {**one.document, **({"HealthCheckId": "H1"} if one.checked else {})}
            name, kind = document["Name"].rstrip("."), document["Type"]
            values = tuple(canonical(kind, record["Value"]) for record in document["ResourceRecords"])
            identifier = document.get("SetIdentifier", "")
            if one.action == "DELETE":
                del sets[name, kind, identifier]
            else:
                sets[name, kind, identifier] = StoredSet(
                    name, kind, document["TTL"], values, identifier, document
                )
        return replace(zone, sets=tuple(sets.values()))

    return [changed(zone) for zone in zones]


def check_of(config: Config, done: Plan) -> list[HealthCheck]:
    want = wanted(config, KNOWN).failover
    return [HealthCheck("H1", 1, wanted_check(want))] if want and done.check else []


@given(st.lists(stored, max_size=12), st.booleans())
def test_one_run_completes_it_and_nothing_of_others_is_lost(found: list[Stored], failover: bool) -> None:
    config = FAILOVER if failover else CONFIG
    want, zones = wanted(config, KNOWN), zones_of(found)
    first = plan(config, want, zones, [])
    now = after(zones, first)
    second = plan(config, want, now, check_of(config, first))
    assert second.changes == () and second.surplus == ()
    assert second.conflicts == first.conflicts
    there = {(one.name, one.type): one for zone in now for one in zone.sets}
    for zone in zones:
        for one in zone.sets:
            record = named(want.sets, one.name, one.type)
            kept = there[one.name, one.type].values
            for text in one.values:
                assert text in kept or (record is not None and is_ours(config, record, text)), (one, text)
    # A CNAME stands alone at its name.
    for (name, kind), _ in there.items():
        if kind == "CNAME" and named(want.sets, name, "CNAME"):
            others = [other for at, other in there if at == name and other != "CNAME"]
            assert not others or name in {one.name for one in first.conflicts}


@given(st.lists(stored, max_size=6))
def test_the_failover_leaves_no_trace(found: list[Stored]) -> None:
    zones = zones_of(found)
    made = plan(FAILOVER, wanted(FAILOVER, KNOWN), zones, [])
    checks = check_of(FAILOVER, made)
    off = plan(CONFIG, WANTED, after(zones, made), checks)
    gone = after(after(zones, made), off)
    assert off.surplus == tuple(checks)
    assert not [one for zone in gone for one in zone.sets if one.identifier]
