"""Asks name servers, each question over UDP and, where the answer is too long for that, TCP.

The zone's own name servers are asked first, because a cache neither shows a change at once nor forgets an
error; a resolver is asked besides, because it is what the rest of the world sees.
"""

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from twinmail.dns.answer import Answer, Question
from twinmail.dns.record_set import of_data
from twinmail.errors import PermanentError, TransientError

PORT = 53
SECONDS = 3.0
"""For one attempt."""
ATTEMPTS = 2
PARALLEL = 8
_GIVEN = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?")

Address = tuple[str, int]


class Resolver:
    """Answers of the name servers of a zone, and of a resolver.

    Args:
        servers: resolvers; the next one is asked if one does not answer.
        authoritative: whether to ask the name servers of the zone too.
        port: of those.
        seconds: to wait for an answer, each time.
    """

    def __init__(
        self, servers: Iterable[Address], authoritative: bool, port: int = PORT, seconds: float = SECONDS
    ) -> None:
        self._servers = tuple(servers)
        self._authoritative = authoritative
        self._port = port
        self._seconds = seconds
        self._silent: dict[Address, str] = {}
        self._heard: set[Address] = set()
        self._zones: dict[str, tuple[Address, ...]] = {}

    @classmethod
    def of_system(cls) -> "Resolver":
        """The resolvers of this machine, and the name servers of the zones.

        Raises:
            TransientError: this machine has none.
        """
        try:
            servers = dns.resolver.Resolver().nameservers
        except dns.exception.DNSException as error:
            raise TransientError(
                f"this machine has no resolver ({error}); name one: ./inv dns --check --resolver IP"
            ) from error
        return cls([(str(one), PORT) for one in servers], authoritative=True)

    @classmethod
    def given(cls, text: str) -> "Resolver":
        """The resolver at *text*, ``IP``, ``IP:PORT`` or ``[IP6]:PORT``, and nobody else.

        Raises:
            PermanentError: it is something else.
        """
        if dns.inet.is_address(text):
            return cls([(text, PORT)], authoritative=False)
        found = _GIVEN.fullmatch(text)
        address = found and (found["six"] or found["four"])
        port = int(found["port"] or PORT) if found else 0
        if not address or not dns.inet.is_address(address) or not 0 < port < 1 << 16:
            raise PermanentError(f"--resolver: expected IP, IP:PORT or [IP]:PORT, got {text!r}")
        return cls([(address, port)], authoritative=False)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Who did not answer, one line each."""
        return tuple(f"{host} port {port}: {why}" for (host, port), why in sorted(self._silent.items()))

    def ask(self, questions: Iterable[Question]) -> Mapping[Question, Answer]:
        """The answer to each of *questions*; see `twinmail.dns.check.Asker`."""
        asked = tuple(dict.fromkeys(questions))
        if self._authoritative:
            for name in dict.fromkeys(name for name, _ in asked):
                self._find_zone(name)
        with ThreadPoolExecutor(PARALLEL) as pool:
            try:
                return dict(zip(asked, pool.map(self._answer, asked), strict=True))
            except BaseException:
                # Whoever interrupts does not wait for questions that nobody has asked yet.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _answer(self, question: Question) -> Answer:
        cached, _ = self._exchange(self._servers, question)
        name, kind = question
        zone = self._zone_of(name)
        if zone is None or not self._zones[zone]:
            return cached
        own, is_own = self._exchange(self._zones[zone], question, recursion=False)
        # Silent, no authority for this name, or a CNAME leads out of their zone: the resolver knows more.
        if not is_own or (own.alias and not own.values and kind != "CNAME"):
            return cached
        return replace(own, cached=cached)

    def _find_zone(self, name: str) -> None:
        if self._zone_of(name) is not None:
            return
        response = self._response(self._servers, (name, "SOA"))
        # If the name is not the top of a zone, its SOA comes beside the empty answer (RFC 2308, 3).
        tops = (
            [
                one.name.to_text(omit_final_dot=True).lower()
                for section in (response.answer, response.authority)
                for one in section
                if one.rdtype == dns.rdatatype.SOA
            ]
            if isinstance(response, dns.message.Message)
            else []
        )
        zone = next((one for one in tops if name == one or name.endswith(f".{one}")), name)
        hosts, _ = self._exchange(self._servers, (zone, "NS"))
        found: list[Address] = []
        for host in hosts.values:
            for kind in ("A", "AAAA"):
                addresses, _ = self._exchange(self._servers, (host.rstrip("."), kind))
                found += [(one, self._port) for one in addresses.values]
        # Those that every network reaches first.
        self._zones[zone] = tuple(sorted(found, key=lambda one: ":" in one[0]))

    def _zone_of(self, name: str) -> str | None:
        known = [one for one in self._zones if name == one or name.endswith(f".{one}")]
        return max(known, key=len, default=None)

    def _exchange(
        self, servers: tuple[Address, ...], question: Question, recursion: bool = True
    ) -> tuple[Answer, bool]:
        """The answer of the first of *servers* that has one, and whether it speaks for the zone."""
        response = self._response(servers, question, recursion)
        if isinstance(response, str):
            return Answer(failure=response), False
        return _read(response, question), bool(response.flags & dns.flags.AA)

    def _response(
        self, servers: tuple[Address, ...], question: Question, recursion: bool = True
    ) -> dns.message.Message | str:
        name, kind = question
        query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
        if not recursion:
            query.flags &= ~dns.flags.RD
        failure = "no name server to ask"
        for address in servers:
            # Whoever never answers is waited for once.
            answer = self._silent.get(address) or self._attempt(query, address)
            if not isinstance(answer, str):
                self._heard.add(address)
                if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    return answer
                failure = f"{dns.rcode.to_text(answer.rcode())} from {address[0]}"
                continue
            failure = answer
            if address not in self._heard:
                self._silent[address] = answer
        return failure

    def _attempt(self, query: dns.message.Message, address: Address) -> dns.message.Message | str:
        host, port = address
        for _ in range(ATTEMPTS):
            try:
                answer, _ = dns.query.udp_with_fallback(query, host, self._seconds, port)
            except dns.exception.Timeout:
                continue
            except (OSError, EOFError, dns.exception.DNSException) as error:
                return f"no answer from {host}: {error or type(error).__name__}"
            return answer
        return f"no answer from {host} in {ATTEMPTS} times {self._seconds:g} s"


def _read(response: dns.message.Message, question: Question) -> Answer:
    """The answer in *response*, through the CNAMEs in it."""
    asked, kind = question
    name, wanted = dns.name.from_text(asked), dns.rdatatype.from_text(kind)
    alias = ""
    # A loop of CNAMEs is as long as the answer.
    for _ in response.answer:
        found = _rrset(response, name, wanted)
        if found is not None:
            return Answer(tuple(sorted(of_data(one) for one in found)), alias)
        step = _rrset(response, name, dns.rdatatype.CNAME)
        if step is None:
            break
        target = step[0].target
        alias, name = alias or target.to_text().lower(), target
    return Answer(alias=alias)


def _rrset(
    response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    return next((one for one in response.answer if one.name == name and one.rdtype == kind), None)
