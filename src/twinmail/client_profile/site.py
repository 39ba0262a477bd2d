"""Where clients connect to; pure.

Everything is TLS from the first octet (RFC 8314): IMAPS on 993, submissions on 465.
"""

from dataclasses import dataclass

from twinmail.config import Config

IMAPS = 993
SUBMISSIONS = 465
SUBMISSION = 587


@dataclass(frozen=True)
class Endpoint:
    """A TLS port of a server.

    Attributes:
        server: name of the server in the configuration, ``ses`` for SES.
    """

    server: str
    host: str
    port: int


@dataclass(frozen=True)
class Site:
    """All endpoints of one installation.

    Attributes:
        incoming: IMAPS of every server, the preferred one first.
        relays: servers that send with the mailbox's own password; may be empty.
        ses: the SES SMTP endpoint, which wants SES's own credentials.
        webmail: address of Roundcube, which also serves the files made here; empty if there is none.
    """

    incoming: tuple[Endpoint, ...]
    relays: tuple[Endpoint, ...]
    ses: Endpoint
    webmail: str


def site(config: Config) -> Site:
    """The endpoints that *config* stands for once it is deployed."""
    servers = config.servers.values()
    webmail = next((one.host for one in servers if one.webmail), "")
    return Site(
        incoming=tuple(Endpoint(one.name, one.host, IMAPS) for one in servers),
        relays=tuple(Endpoint(one.name, one.host, SUBMISSIONS) for one in servers if one.submission),
        ses=Endpoint("ses", f"email-smtp.{config.region}.amazonaws.com", SUBMISSIONS),
        webmail=f"https://{webmail}" if webmail else "",
    )


def web_names(config: Config) -> tuple[str, ...]:
    """Host names that the web server answers to, and that its certificate must hold."""
    hosts = [one.host for one in config.servers.values() if one.webmail]
    if not hosts:
        return ()
    prefixes = ("autoconfig", "autodiscover", "mta-sts")
    return (*hosts, *(f"{prefix}.{domain}" for domain in config.domains for prefix in prefixes))
