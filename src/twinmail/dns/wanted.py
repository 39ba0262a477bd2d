"""Every record that the configuration needs, with what AWS knows of them; pure.

Sources: SES Developer Guide ("Publishing an MX record", "Easy DKIM", "Custom MAIL FROM domain"), RFC 7208
(SPF), RFC 7489 (DMARC), RFC 8460 (TLS reports), RFC 8659 (CAA); the rest is in
`twinmail.client_profile.records`.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

from twinmail.certificate.names import FAILOVER
from twinmail.client_profile import records as client_records
from twinmail.client_profile.records import Record
from twinmail.client_profile.site import site
from twinmail.config import Config, Server
from twinmail.dns.known import Known
from twinmail.dns.record_set import RecordSet, sets

AUTHORITY = "letsencrypt.org"
"""Who may make certificates for our names, in the words of CAA."""
SPF = "v=spf1 include:amazonses.com ~all"
"""Everything we send is sent by SES (SES Developer Guide, "Authenticating email with SPF")."""

HOST_TTL = 300
"""Of the addresses of servers, which move when one is replaced."""
FAILOVER_TTL = 60
"""For so long at most does a client keep asking a server that is down."""
_FAILOVER_SERVERS = 2
# What stands for itself in the address of a URI (RFC 6068, 2).
_PLAIN = "+$'*"


@dataclass(frozen=True)
class FailOver:
    """Names that lead to the first server while it is healthy, else to the second.

    Both lead by a CNAME to the server's own name: the two sets of a fail-over must be of one type, and a
    server may be known by a name alone (Route 53 Developer Guide, "Values for failover records").

    Attributes:
        names: one below each domain.
        hosts: of the first and the second server.
        servers: their names in the configuration.
    """

    names: tuple[str, ...]
    hosts: tuple[str, str]
    servers: tuple[str, str]


@dataclass(frozen=True)
class Wanted:
    """What must be in the DNS.

    Attributes:
        sets: the records, those of one name and type together.
        gaps: what cannot be said yet, and what it takes; one line each.
        notes: what is worth knowing beside the records; one line each.
    """

    sets: tuple[RecordSet, ...]
    gaps: tuple[str, ...]
    notes: tuple[str, ...]
    failover: FailOver | None = None


def wanted(config: Config, known: Known) -> Wanted:
    """The records of *config*, by domain, in the order of the configuration."""
    gaps: list[str] = []
    notes: list[str] = []
    clients = client_records.records(config, site(config))
    found: list[Record] = []
    for domain in config.domains:
        found += _mail(config, domain)
        found += _signing(config, domain, known, gaps, notes)
        found += _reports(config, domain, notes)
        found += [one for one in clients if below(one.name, domain)]
        found.append(Record(domain, "CAA", f'0 issue "{AUTHORITY}"', "who may make certificates (RFC 8659)"))
    hosts = [_host(one, known, gaps) for one in config.servers.values()]
    failover = _failover(config, gaps)
    everything = sets([*found, *(record for host in hosts for record in host)])
    return Wanted((*everything, *_failover_sets(failover)), tuple(gaps), tuple(notes), failover)


def below(name: str, domain: str) -> bool:
    """Whether *name* is *domain* or below it."""
    return name == domain or name.endswith(f".{domain}")


def home(name: str, zones: Iterable[str]) -> str | None:
    """The longest of *zones* that *name* is, or is below; None if it is in none of them."""
    return max((one for one in zones if below(name, one)), key=len, default=None)


def _mail(config: Config, domain: str) -> Iterator[Record]:
    region, envelope = config.region, config.mail_from(domain)
    yield Record(domain, "MX", f"10 inbound-smtp.{region}.amazonaws.com.", "SES receives our mail")
    yield Record(domain, "TXT", SPF, "who sends for us (SPF, RFC 7208)")
    yield Record(envelope, "MX", f"10 feedback-smtp.{region}.amazonses.com.", "SES takes bounces of our mail")
    yield Record(envelope, "TXT", SPF, "who sends for the envelope sender (SPF, RFC 7208)")


def _signing(
    config: Config, domain: str, known: Known, gaps: list[str], notes: list[str]
) -> Iterator[Record]:
    identity = known.identities.get(domain)
    if identity is None or not identity.tokens:
        why = (
            "AWS was not asked, for want of credentials"
            if not known.asked
            else "SES does not know the domain yet; make it known with: ./inv deploy cloud"
            if identity is None
            else "SES signs with a key that was brought to it, and tells no names of keys; use Easy DKIM"
        )
        gaps.append(f"{domain}: the DKIM records: {why}")
    if identity is None:
        return
    for token in identity.tokens:
        name, value = f"{token}._domainkey.{domain}", f"{token}.{identity.dkim_zone}."
        yield Record(name, "CNAME", value, "the key of our signatures (DKIM)")
    envelope = config.mail_from(domain)
    if identity.mail_from != envelope:
        gaps.append(
            f"{domain}: SES has {identity.mail_from or 'its own name'} as envelope sender, "
            f"expected {envelope}; bring it to SES with: ./inv deploy cloud"
        )
    elif identity.mail_from_status != "SUCCESS":
        notes.append(f"{domain}: SES has not seen the records of {envelope} ({identity.mail_from_status})")
    if identity.dkim != "SUCCESS":
        notes.append(f"{domain}: SES has not seen the DKIM records ({identity.dkim})")


def _reports(config: Config, domain: str, notes: list[str]) -> Iterator[Record]:
    policy = f"v=DMARC1; p={config.dns.dmarc}"
    if config.operator is None:
        notes.append(f"{domain}: nobody gets reports of DMARC and TLS; name operator in the configuration")
        yield Record(f"_dmarc.{domain}", "TXT", policy, "mail that only pretends to be ours (DMARC)")
        return
    local, _, home = config.operator.lower().rpartition("@")
    # A URI: what ends an address in a list of them is written as an octet (RFC 7489, 6.2).
    address = f"mailto:{quote(local, safe=_PLAIN)}@{home}"
    yield Record(
        f"_dmarc.{domain}", "TXT", f"{policy}; rua={address}", "mail that only pretends to be ours (DMARC)"
    )
    if not below(home, domain) and not below(domain, home):
        # The receiver of reports on another domain must agree (RFC 7489, 7.1).
        agreed = f"{domain}._report._dmarc.{home}"
        if any(below(home, one) for one in config.domains):
            purpose = f"reports on {domain} may go to {home} (DMARC)"
            yield Record(agreed, "TXT", "v=DMARC1", purpose)
        else:
            notes.append(
                f"{domain}: reports go to {config.operator} only if {home} has the record "
                f'{agreed} TXT "v=DMARC1"; better name an operator in one of your domains'
            )
    yield Record(
        f"_smtp._tls.{domain}", "TXT", f"v=TLSRPTv1; rua={address}", "reports of failed TLS (RFC 8460)"
    )


def _host(server: Server, known: Known, gaps: list[str]) -> Iterator[Record]:
    host = server.host.lower().rstrip(".")
    addresses = server.addresses or tuple(filter(None, [known.static_ips.get(server.name, "")]))
    purpose = f"the server {server.name}"
    if not addresses:
        why = (
            f"say where it is reached: servers.{server.name}.addresses"
            if server.lightsail is None
            else "AWS was not asked, for want of credentials"
            if not known.asked
            else "it has no static IP yet; make it with: ./inv deploy backup"
        )
        gaps.append(f"{host}: the address of server {server.name}: {why}")
    for address in addresses:
        try:
            version = ipaddress.ip_address(address).version
        except ValueError:
            target = address.lower().rstrip(".")
            # The name may be kept up to date elsewhere, as routers do.
            if target != host:
                yield Record(host, "CNAME", f"{target}.", purpose, HOST_TTL)
        else:
            yield Record(host, "A" if version == 4 else "AAAA", address, purpose, HOST_TTL)


def _failover(config: Config, gaps: list[str]) -> FailOver | None:
    if not config.dns.failover:
        return None
    servers = tuple(config.servers.values())
    names = tuple(f"{FAILOVER}.{domain}" for domain in config.domains)
    hosts = [one.host.lower().rstrip(".") for one in servers]
    problem = ""
    if not config.dns.route53:
        problem = "it is a service of Route 53, and dns.route53 is off"
    elif len(servers) != _FAILOVER_SERVERS:
        problem = f"it takes two servers, there are {len(servers)}"
    elif shared := set(hosts) & set(names):
        problem = f"{min(shared)} is the name of a server already; give that another host"
    elif servers[0].addresses and all(":" in one for one in servers[0].addresses):
        problem = f"the health check asks {hosts[0]} by IPv4, and it has IPv6 addresses alone"
    if problem:
        gaps.append(f"{names[0]}: fail-over: {problem}; or set dns.failover = false")
        return None
    return FailOver(names, (hosts[0], hosts[1]), (servers[0].name, servers[1].name))


def _failover_sets(failover: FailOver | None) -> tuple[RecordSet, ...]:
    if failover is None:
        return ()
    first = RecordSet(
        "",
        "CNAME",
        tuple(f"{host}." for host in failover.hosts),
        "the first healthy server",
        FAILOVER_TTL,
        any_one=True,
    )
    return tuple(replace(first, name=name) for name in failover.names)
