"""DNS records by which clients and other mail servers find what is served; data for the DNS step; pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from twinmail.client_profile.site import IMAPS, SUBMISSION, SUBMISSIONS, Site
from twinmail.config import Config

TTL = 3600
_POLICY_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Record:
    """One resource record.

    Attributes:
        name: owner, fully qualified, without the last dot.
        type: ``SRV``, ``CNAME`` or ``TXT``.
        value: as in a zone file; host names end with a dot, a TXT is not quoted.
        purpose: who asks for it.
        ttl: seconds.
    """

    name: str
    type: str
    value: str
    purpose: str
    ttl: int = TTL


def mta_sts_policy(config: Config) -> bytes:
    """The policy file (RFC 8461, 3.2): other servers must use TLS to reach SES, which receives for us."""
    lines = (
        "version: STSv1",
        "mode: enforce",
        f"mx: inbound-smtp.{config.region}.amazonaws.com",
        f"max_age: {_POLICY_SECONDS}",
    )
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def records(config: Config, site: Site) -> tuple[Record, ...]:
    """The records of every domain, in the order of the configuration."""
    return tuple(record for domain in config.domains for record in _of_domain(config, site, domain))


def zone_lines(found: Sequence[Record]) -> list[str]:
    """*found* as lines of a zone file (RFC 1035, 5.1), each with its purpose as a comment."""
    width = max((len(one.name) for one in found), default=0) + 1
    values = [f'"{one.value}"' if one.type == "TXT" else one.value for one in found]
    room = max(map(len, values), default=0)
    return [
        f"{one.name + '.':<{width}} {one.ttl} IN {one.type:<5} {value:<{room}} ; {one.purpose}"
        for one, value in zip(found, values, strict=True)
    ]


def _of_domain(config: Config, site: Site, domain: str) -> tuple[Record, ...]:
    found = []
    for preference, one in enumerate(site.incoming):
        found.append(_service("_imaps", domain, preference, one.host, IMAPS, "IMAP over TLS (RFC 6186)"))
    for service in ("_imap", "_pop3", "_pop3s"):
        # A target of "." says that there is no such service, so that clients stop looking.
        found.append(Record(f"{service}._tcp.{domain}", "SRV", "0 0 0 .", "not offered (RFC 6186)"))
    outgoing = site.relays or (site.ses,)
    for preference, one in enumerate(outgoing):
        found.append(
            _service("_submissions", domain, preference, one.host, SUBMISSIONS, "sending over TLS (RFC 8314)")
        )
    # The old name of the port with STARTTLS: SES has one, our own servers have not.
    starttls = "0 0 0 ." if site.relays else f"0 1 {SUBMISSION} {site.ses.host}."
    purpose = "not offered (RFC 6186)" if site.relays else "sending with STARTTLS (RFC 6186)"
    found.append(Record(f"_submission._tcp.{domain}", "SRV", starttls, purpose))
    if site.webmail:
        web = site.webmail.removeprefix("https://")
        digest = hashlib.sha256(mta_sts_policy(config)).hexdigest()[:20]
        found += [
            Record(f"autoconfig.{domain}", "CNAME", f"{web}.", "Thunderbird, K-9 and FairEmail"),
            Record(f"autodiscover.{domain}", "CNAME", f"{web}.", "Outlook"),
            _service("_autodiscover", domain, 0, web, 443, "Outlook"),
            Record(f"mta-sts.{domain}", "CNAME", f"{web}.", "TLS for incoming mail (RFC 8461)"),
            # The id changes with the policy; that is what makes other servers fetch it again.
            Record(f"_mta-sts.{domain}", "TXT", f"v=STSv1; id={digest};", "TLS for incoming mail (RFC 8461)"),
        ]
    return tuple(found)


def _service(service: str, domain: str, priority: int, host: str, port: int, purpose: str) -> Record:
    # Lower is preferred: the first server of the configuration, then the next (RFC 2782).
    return Record(f"{service}._tcp.{domain}", "SRV", f"{priority * 10} 1 {port} {host}.", purpose)
