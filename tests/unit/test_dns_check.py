"""``./inv dns --check`` against a name server: each way to be broken gives its own line."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import dns.rcode
import dns.resolver
import pytest

from tests.name_server import HOST, NameServer, serve
from tests.unit.dns_example import CONFIG, KNOWN, WANTED, with_dns, with_server
from twinmail.certificate import names
from twinmail.config import Config
from twinmail.dns.check import check
from twinmail.dns.finding import Finding, State
from twinmail.dns.resolver import Resolver
from twinmail.dns.wanted import wanted
from twinmail.dns.zone import fragment
from twinmail.errors import PermanentError, TransientError

QUICK = 0.3
"""Seconds until a server that is silent counts as silent."""
HOME = "home.example.com. 60 IN A 192.0.2.4"


@pytest.fixture
def server() -> Iterator[NameServer]:
    """A server that has everything."""
    with serve("example.org", "example.net") as found:
        found.load(f"{fragment(WANTED, CONFIG.domains)}{HOME}\n")
        yield found


def checked(server: NameServer, config: Config = CONFIG) -> tuple[Finding, ...]:
    """What the check finds, by the one resolver *server*."""
    hosts = [name for one in config.servers for name in names.names(config, one)]
    resolver = Resolver([(HOST, server.port)], authoritative=False, seconds=QUICK)
    return check(wanted(config, KNOWN).sets, resolver, hosts)


def bad(findings: Sequence[Finding]) -> list[Finding]:
    return [one for one in findings if not one.right]


def test_everything_is_right(server: NameServer) -> None:
    findings = checked(server)
    assert not bad(findings)
    assert [(one.name, one.type) for one in findings] == [one.key for one in WANTED.sets]
    assert all(one.got for one in findings)


def test_nothing_is_there(server: NameServer) -> None:
    server.load(HOME)
    assert {one.state for one in checked(server)} == {State.MISSING}


Break = Callable[[NameServer], None]


def swap(name: str, kind: str, *lines: str) -> Break:
    """Other records in place of those with *name* and *kind*."""

    def act(server: NameServer) -> None:
        server.remove(name, kind)
        for line in lines:
            server.add(line)

    return act


BREAKS: list[tuple[str, Break, State, str, str]] = [
    ("MX missing", swap("example.org", "MX"), State.MISSING, "MX example.org", "add it"),
    (
        "second MX",
        lambda server: server.add("example.org. 60 IN MX 20 old.example."),
        State.WRONG,
        "MX example.org",
        "mail goes there too: remove 20 old.example.",
    ),
    (
        "MX of another region",
        swap("example.org", "MX", "example.org. 60 IN MX 10 inbound-smtp.eu-west-1.amazonaws.com."),
        State.WRONG,
        "MX example.org",
        "remove 10 inbound-smtp.eu-west-1.amazonaws.com., add 10 inbound-smtp.eu-central-1.amazonaws.com.",
    ),
    (
        "second SPF",
        lambda server: server.add('example.org. 60 IN TXT "v=spf1 include:_spf.example.com -all"'),
        State.WRONG,
        "TXT example.org",
        "there are 2 records v=spf1, and receivers then use none; keep one",
    ),
    (
        "SPF without SES",
        swap("example.org", "TXT", 'example.org. 60 IN TXT "v=spf1 a -all"'),
        State.WRONG,
        "TXT example.org",
        "put include:amazonses.com into it",
    ),
    (
        "SPF that lets everybody",
        swap("example.org", "TXT", 'example.org. 60 IN TXT "v=spf1 include:amazonses.com ?all"'),
        State.WRONG,
        "TXT example.org",
        "and ~all or -all at its end",
    ),
    (
        "another policy of DMARC",
        swap("_dmarc.example.net", "TXT", '_dmarc.example.net. 60 IN TXT "v=DMARC1; p=none"'),
        State.WRONG,
        "TXT _dmarc.example.net",
        "replace it",
    ),
    (
        "two policies of DMARC",
        lambda server: server.add('_dmarc.example.net. 60 IN TXT "v=DMARC1; p=none"'),
        State.WRONG,
        "TXT _dmarc.example.net",
        "there are 2 records v=dmarc1",
    ),
    (
        "an older TLS policy",
        swap("_mta-sts.example.org", "TXT", '_mta-sts.example.org. 60 IN TXT "v=STSv1; id=1;"'),
        State.WRONG,
        "TXT _mta-sts.example.org",
        "replace it",
    ),
    (
        "key of DKIM missing",
        swap("g2._domainkey.example.org", "CNAME"),
        State.MISSING,
        "CNAME g2._domainkey.example.org",
        "add it",
    ),
    (
        "addresses where a CNAME belongs",
        swap("mta-sts.example.org", "CNAME", "mta-sts.example.org. 60 IN A 192.0.2.9"),
        State.WRONG,
        "CNAME mta-sts.example.org",
        "addresses stand where the CNAME belongs; remove them",
    ),
    (
        "a CNAME at the same name",
        swap("bounce.example.org", "MX", "bounce.example.org. 60 IN CNAME example.com."),
        State.WRONG,
        "MX bounce.example.org",
        "a CNAME stands alone at its name (RFC 1034, 3.6.2); remove it",
    ),
    (
        "the server has moved",
        swap("backup.example.org", "A", "backup.example.org. 60 IN A 192.0.2.77"),
        State.WRONG,
        "A backup.example.org",
        "remove 192.0.2.77, add 198.51.100.7",
    ),
    (
        "an address that nobody knows",
        lambda server: server.add("backup.example.org. 60 IN AAAA 2001:db8::7"),
        State.WRONG,
        "AAAA backup.example.org",
        "clients connect there too; remove it, or add it to the addresses of the server backup",
    ),
    (
        "a service at another port",
        swap(
            "_submissions._tcp.example.net",
            "SRV",
            "_submissions._tcp.example.net. 60 IN SRV 0 1 587 backup.example.org.",
        ),
        State.WRONG,
        "SRV _submissions._tcp.example.net",
        "add 0 1 465 backup.example.org.",
    ),
    (
        "CAA that forbids our authority",
        swap("example.org", "CAA", 'example.org. 60 IN CAA 0 issue "other.example"'),
        State.WRONG,
        "CAA example.org",
        "it forbids the authority that our certificates come from; add ours beside it",
    ),
    (
        "CAA that forbids it at one host",
        lambda server: server.add('backup.example.org. 60 IN CAA 0 issue ";"'),
        State.WRONG,
        "CAA backup.example.org",
        "it forbids the authority that our certificates come from; add ours beside it, or remove it",
    ),
    (
        "CAA beyond the CNAME of a host",
        lambda server: server.add('home.example.com. 60 IN CAA 0 issue "other.example"'),
        State.WRONG,
        "CAA primary.example.org",
        "it forbids the authority that our certificates come from; add ours beside it, or remove it",
    ),
    (
        "SERVFAIL",
        lambda server: server.codes.update({"_smtp._tls.example.org": dns.rcode.SERVFAIL}),
        State.UNANSWERED,
        "TXT _smtp._tls.example.org",
        "SERVFAIL from 127.0.0.1; ask again, or ask another: --resolver IP",
    ),
    (
        "REFUSED",
        lambda server: server.codes.update({"_smtp._tls.example.org": dns.rcode.REFUSED}),
        State.UNANSWERED,
        "TXT _smtp._tls.example.org",
        "REFUSED from 127.0.0.1; ask again",
    ),
    (
        "silence",
        lambda server: server.silent.add("_smtp._tls.example.org"),
        State.UNANSWERED,
        "TXT _smtp._tls.example.org",
        "no answer from 127.0.0.1 in 2 times 0.3 s; ask again",
    ),
]


@pytest.mark.parametrize(
    ("damage", "state", "line", "remedy"), [one[1:] for one in BREAKS], ids=[one[0] for one in BREAKS]
)
def test_each_break_has_its_own_line(
    server: NameServer, damage: Break, state: State, line: str, remedy: str
) -> None:
    damage(server)
    findings = bad(checked(server))
    # A CNAME takes the whole name: the TXT beside the MX is gone as well.
    if "CNAME stands alone" in remedy:
        findings = findings[:1]
    assert [(one.state, f"{one.type} {one.name}") for one in findings] == [(state, line)]
    assert remedy in findings[0].remedy, findings[0].remedy
    assert (findings[0].got != ()) == (state is State.WRONG)


@pytest.mark.parametrize(
    "line",
    [
        'example.org. 60 IN TXT "site-verification=1"',
        'example.org. 60 IN CAA 0 issue "other.example"',
        'example.org. 60 IN CAA 0 iodef "mailto:ann@example.org"',
        'backup.example.org. 60 IN CAA 0 issue "letsencrypt.org; validationmethods=http-01"',
        'backup.example.org. 60 IN CAA 0 issuewild ";"',
        "home.example.com. 60 IN AAAA 2001:db8::4",
    ],
)
def test_what_is_not_in_the_way_is_right(server: NameServer, line: str) -> None:
    server.add(line)
    assert not bad(checked(server))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("example.org", "v=spf1 ip4:192.0.2.1 +include:amazonses.com -all"),
        (
            "_dmarc.example.org",
            "v=DMARC1;p=quarantine; adkim=s; rua=mailto:x@example.com,mailto:ann+ops@example.org",
        ),
    ],
)
def test_more_than_is_needed_is_right(server: NameServer, name: str, text: str) -> None:
    swap(name, "TXT", f'{name}. 60 IN TXT "{text}"')(server)
    assert not bad(checked(server))


def test_the_failover_leads_to_either_server(server: NameServer) -> None:
    config = with_dns(failover=True)
    assert [one.name for one in bad(checked(server, config))] == ["imap.example.org", "imap.example.net"]
    server.add("imap.example.org. 60 IN CNAME primary.example.org.")
    server.add("imap.example.net. 60 IN CNAME backup.example.org.")
    findings = checked(server, config)
    assert not bad(findings)
    notes = {one.name: one.note for one in findings if one.note}
    assert notes == {"imap.example.net": "answers backup.example.org., for the first server is not healthy"}
    swap("imap.example.org", "CNAME", "imap.example.org. 60 IN CNAME elsewhere.example.")(server)
    assert [one.state for one in bad(checked(server, config))] == [State.WRONG]


def test_a_long_answer_comes_over_tcp(server: NameServer) -> None:
    for number in range(40):
        server.add(f'example.org. 60 IN TXT "verification-{number}={"x" * 60}"')
    assert not bad(checked(server))
    assert ("example.org", "TXT", "tcp", True) in server.asked


def test_a_resolver_that_never_answers_is_waited_for_once(server: NameServer) -> None:
    server.silent.add("*")
    resolver = Resolver([(HOST, server.port)], authoritative=False, seconds=QUICK)
    findings = check(WANTED.sets, resolver)
    assert {one.state for one in findings} == {State.UNANSWERED}
    # Those that were under way at once, each twice.
    assert len(server.asked) <= 8 * 2
    assert resolver.doubts == (f"127.0.0.1 port {server.port}: no answer from 127.0.0.1 in 2 times 0.3 s",)


class TestNameServersOfTheZone:
    """With a resolver, which has a cache, beside them."""

    @pytest.fixture
    def cache(self, server: NameServer) -> Iterator[NameServer]:
        """Knows what *server* knew, and where that is."""
        with serve("example.org", "example.net") as found:
            found.authority = False
            found.rrsets = list(server.rrsets)
            for zone in ("example.org", "example.net"):
                found.add(f"{zone}. 60 IN NS ns.{zone}.")
                found.add(f"ns.{zone}. 60 IN A {HOST}")
            yield found

    def resolver(self, server: NameServer, cache: NameServer) -> Resolver:
        return Resolver([(HOST, cache.port)], authoritative=True, port=server.port, seconds=QUICK)

    def test_they_decide_and_are_asked_themselves(self, server: NameServer, cache: NameServer) -> None:
        swap("example.org", "MX", "example.org. 60 IN MX 5 old.example.")(cache)
        findings = check(WANTED.sets, self.resolver(server, cache))
        assert not bad(findings)
        notes = {one.type: one.note for one in findings if one.note}
        assert notes == {
            "MX": "a resolver still has an older answer (5 old.example.), until its time to live is over"
        }
        assert ("example.org", "MX", "udp", False) in server.asked
        assert not [one for one in server.asked if one[3]]

    def test_an_error_that_only_a_cache_hides_is_seen(self, server: NameServer, cache: NameServer) -> None:
        server.remove("_dmarc.example.org", "TXT")
        findings = bad(check(WANTED.sets, self.resolver(server, cache)))
        assert [(one.name, one.state) for one in findings] == [("_dmarc.example.org", State.MISSING)]

    def test_resolvers_that_do_not_believe_them(self, server: NameServer, cache: NameServer) -> None:
        cache.codes["_dmarc.example.org"] = dns.rcode.SERVFAIL
        findings = bad(check(WANTED.sets, self.resolver(server, cache)))
        assert [(one.name, one.state) for one in findings] == [("_dmarc.example.org", State.UNANSWERED)]
        assert "check the delegation and DNSSEC" in findings[0].remedy

    def test_where_they_are_silent_the_resolver_decides(self, server: NameServer, cache: NameServer) -> None:
        server.silent.add("*")
        cache.remove("_dmarc.example.org", "TXT")
        resolver = self.resolver(server, cache)
        findings = bad(check(WANTED.sets, resolver))
        assert [(one.name, one.state) for one in findings] == [("_dmarc.example.org", State.MISSING)]
        assert [one.partition(": ")[0] for one in resolver.doubts] == [f"127.0.0.1 port {server.port}"]

    def test_beyond_a_cname_that_leads_out_of_the_zone(self, server: NameServer, cache: NameServer) -> None:
        server.remove("home.example.com", "A")
        cache.add('home.example.com. 60 IN CAA 0 issue "other.example"')
        findings = bad(check(WANTED.sets, self.resolver(server, cache), ["primary.example.org"]))
        assert [(one.name, one.type, one.got) for one in findings] == [
            ("primary.example.org", "CAA", ('0 issue "other.example"',))
        ]

    def test_a_part_that_is_delegated_further_is_asked_of_the_resolver(
        self, server: NameServer, cache: NameServer
    ) -> None:
        server.authority = False
        server.load("")
        assert not bad(check(WANTED.sets, self.resolver(server, cache)))


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_a_resolver_is_given_by_its_address(text: str, server: tuple[str, int]) -> None:
    assert Resolver.given(text)._servers == (server,)


@pytest.mark.parametrize(
    "text", ["", "dns.example", "1.2.3", "192.0.2.1:0", "192.0.2.1:65536", "[::1", "::1:x"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(PermanentError, match=r"^--resolver: expected IP, IP:PORT or \[IP\]:PORT, got "):
        Resolver.given(text)


def test_two_servers_by_name_only(server: NameServer) -> None:
    config = with_server("backup", addresses=("vps.example.com",))
    found = bad(checked(server, config))
    assert [(one.name, one.type, one.state, one.got) for one in found] == [
        ("backup.example.org", "CNAME", State.WRONG, ("198.51.100.7",))
    ]
    assert not [one for one in bad(checked(server, replace(CONFIG))) if one]


def test_the_resolvers_are_those_of_the_machine_and_caches_do_not_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dns.resolver.Resolver", lambda: SimpleNamespace(nameservers=["192.0.2.53", "::1"]))
    found = Resolver.of_system()
    assert found._servers == (("192.0.2.53", 53), ("::1", 53))
    # Name servers of the zones are asked, and these only where to find them.
    assert found._authoritative is True


def test_a_machine_without_a_resolver_is_told_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr("dns.resolver.Resolver", none)
    with pytest.raises(TransientError, match=r"no resolver .*\./inv dns --check --resolver IP"):
        Resolver.of_system()
