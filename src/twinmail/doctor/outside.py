"""What is seen from outside: names, ports, certificates. Another network than this one may see otherwise."""

import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime

from twinmail.certificate import names
from twinmail.dns import finding as dns_finding
from twinmail.doctor.finding import Finding, State
from twinmail.doctor.patient import Endpoint, Patient

SECONDS = 5.0
CERTIFICATE_DAYS = 14
"""Renewal begins long before; when this is left, it has failed for a while."""

_STATES = {
    dns_finding.State.RIGHT: State.OK,
    dns_finding.State.MISSING: State.PROBLEM,
    dns_finding.State.WRONG: State.PROBLEM,
    dns_finding.State.UNANSWERED: State.UNKNOWN,
}


def dns(patient: Patient) -> Iterable[Finding]:
    """Every record that the configuration needs, as ``./inv dns --check`` says it."""
    from twinmail.dns import known, wanted
    from twinmail.dns.check import check

    assert patient.resolver is not None
    config = patient.config
    try:
        told = known.read(config, patient)
    except known.NotAsked as error:
        # Most records need nothing of AWS.
        text = f"what AWS alone knows: {' '.join(str(error).split())[:200]}"
        yield Finding("dns", "records", State.UNKNOWN, text)
        told = known.Known(asked=False)
    needed = wanted.wanted(config, told)
    resolver = patient.resolver()
    certified = [name for server in config.servers for name in names.names(config, server)]
    for gap in needed.gaps if told.asked else ():
        yield Finding("dns", "records", State.WARNING, gap)
    right = 0
    for one in check(needed.sets, resolver, certified):
        if one.right:
            right += 1
            continue
        expected, got = ", ".join(one.expected) or "none", ", ".join(one.got) or "none"
        text = f"{one.state}: expected {expected}, got {got}"
        yield Finding("dns", f"{one.name} {one.type}", _STATES[one.state], text, one.remedy)
    yield Finding("dns", "records", State.OK, f"{right} are right")


def ports(patient: Patient) -> Iterable[Finding]:
    """Whether each port that people need answers at the server's own name."""
    for server, endpoint in patient.endpoints.items():
        for purpose, port in endpoint.ports.items():
            subject = f"{server}, {purpose} ({port})"
            try:
                with socket.create_connection((endpoint.host, port), SECONDS):
                    pass
            except socket.gaierror as error:
                text = f"{endpoint.host}: {error.strerror}"
                remedy = "put its address into the DNS: ./inv dns --check"
                yield Finding("ports", subject, State.PROBLEM, text, remedy)
            except OSError as error:
                text = f"{endpoint.host}: {error.strerror or error}"
                remedy = "see that the server runs, and that its firewall or router lets this port in"
                yield Finding("ports", subject, State.PROBLEM, text, remedy)
            else:
                yield Finding("ports", subject, State.OK, f"{endpoint.host} answers, from this network")


def certificates(patient: Patient) -> Iterable[Finding]:
    """The certificate at each port that shows one: trusted, for the right name, valid for long enough."""
    for server, endpoint in patient.endpoints.items():
        for purpose in sorted(endpoint.tls):
            subject = f"{server}, {purpose}"
            yield certificate(subject, endpoint, endpoint.ports[purpose], patient.now(), patient.authority)


def certificate(
    subject: str, endpoint: Endpoint, port: int, now: datetime, authority: str | None = None
) -> Finding:
    """The certificate at *port* of *endpoint*, as a mail program sees it."""
    remedy = "see docs/runbooks/certificate-trouble.md"
    context = ssl.create_default_context(cafile=authority)
    try:
        with (
            socket.create_connection((endpoint.host, port), SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=endpoint.name) as session,
        ):
            shown = session.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return Finding(
            "certificates", subject, State.PROBLEM, f"{endpoint.name}: {error.verify_message}", remedy
        )
    except OSError as error:
        return Finding("certificates", subject, State.UNKNOWN, f"{endpoint.host}: {error.strerror or error}")
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    days = (ends - now).days
    text = f"{endpoint.name}: valid for {days} days"
    if days < CERTIFICATE_DAYS:
        return Finding("certificates", subject, State.WARNING, f"{text}; it was not renewed", remedy)
    return Finding("certificates", subject, State.OK, text)
