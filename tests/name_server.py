"""A name server on a loopback port, UDP and TCP, for records in the form of a zone file.

It is a hundred lines over the library that is there anyway, and can be broken in every way that a test needs:
silent, refusing, without authority, too long for UDP. A real one would be one more thing to install, and would
refuse most of the broken zones.
"""

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zonefile

HOST = "127.0.0.1"


@dataclass
class NameServer:
    """What it answers.

    Attributes:
        zones: names of the zones, without the last dot.
        rrsets: everything it knows.
        codes: response code by name, in place of an answer.
        silent: names about which it says nothing at all; ``*`` is all.
        authority: whether it speaks for its zones, or only passes on what it heard.
        asked: every question, with the transport.
    """

    port: int = 0
    zones: tuple[str, ...] = ()
    rrsets: list[dns.rrset.RRset] = field(default_factory=list)
    codes: dict[str, dns.rcode.Rcode] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    authority: bool = True
    asked: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def load(self, text: str) -> None:
        """Know the records of *text*, lines of a zone file with absolute names, and nothing else."""
        self.rrsets = list(dns.zonefile.read_rrsets(text, origin=".", relativize=False, rdclass=None))

    def add(self, line: str) -> None:
        """Know the record of *line* too."""
        for one in dns.zonefile.read_rrsets(line, origin=".", relativize=False, rdclass=None):
            there = self._find(one.name, one.rdtype)
            if there is None:
                self.rrsets.append(one)
            else:
                there.update(one)

    def remove(self, name: str, kind: str) -> None:
        """Know nothing of *kind* at *name* any more."""
        there = self._find(dns.name.from_text(name), dns.rdatatype.from_text(kind))
        assert there is not None, f"{name} {kind}"
        self.rrsets.remove(there)

    def respond(self, wire: bytes, transport: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        recursion = bool(query.flags & dns.flags.RD)
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype), transport, recursion))
        if {name, "*"} & self.silent:
            return None
        response = dns.message.make_response(query)
        if self.authority:
            response.flags |= dns.flags.AA
        if name in self.codes:
            response.set_rcode(self.codes[name])
        else:
            self._answer(response, question.name, question.rdtype)
        octets = response.to_wire(max_size=65535)
        if transport == "udp" and len(octets) > query.payload:
            response.flags |= dns.flags.TC
            response.answer.clear()
            octets = response.to_wire()
        return octets

    def _answer(
        self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> None:
        for _ in range(8):
            found = self._find(name, kind)
            if found is not None:
                response.answer.append(found)
                return
            alias = self._find(name, dns.rdatatype.CNAME)
            if alias is None:
                break
            response.answer.append(alias)
            name = alias[0].target
        if not any(one.name == name for one in self.rrsets) and not response.answer:
            response.set_rcode(dns.rcode.NXDOMAIN)
        text = name.to_text(omit_final_dot=True).lower()
        for zone in self.zones:
            if text == zone or text.endswith(f".{zone}"):
                soa = f"ns.{zone}. root.{zone}. 1 60 60 60 60"
                response.authority.append(dns.rrset.from_text(f"{zone}.", 60, "IN", "SOA", soa))
                return

    def _find(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        return next((one for one in self.rrsets if one.name == name and one.rdtype == kind), None)


@contextmanager
def serve(*zones: str) -> Iterator[NameServer]:
    """A server for *zones*; it knows nothing yet."""
    found = NameServer(zones=zones)

    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire, socket = self.request
            if answer := found.respond(wire, "udp"):
                socket.sendto(answer, self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack("!H", self.rfile.read(2))
            if answer := found.respond(self.rfile.read(length), "tcp"):
                self.wfile.write(struct.pack("!H", len(answer)) + answer)

    with socketserver.ThreadingTCPServer((HOST, 0), Tcp) as tcp:
        found.port = tcp.server_address[1]
        with socketserver.ThreadingUDPServer((HOST, found.port), Udp) as udp:
            servers = (tcp, udp)
            for one in servers:
                one.daemon_threads = True
                threading.Thread(
                    target=one.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
                ).start()
            try:
                yield found
            finally:
                for one in servers:
                    one.shutdown()
