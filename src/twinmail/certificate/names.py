"""Which names the certificate of a server holds, and how it is shown that they are ours; pure."""

from dataclasses import dataclass

from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.webmail import CLIENT_HOSTS

HTTP = "http-01"
"""The authority fetches a file by HTTP, which the web server of webmail shows on port 80."""
ALONE = "http-01-alone"
"""The same where there is no web server: certbot listens itself, for as long as it is asked."""
DNS = "dns-01"
"""The authority looks a record up, which is written to Route 53; works behind NAT."""

CHALLENGES = (HTTP, ALONE, DNS)
FAILOVER = "imap"
"""The name below each domain that answers with a healthy server (see `twinmail.production.Dns`)."""


class NoChallenge(PermanentError):
    """There is no way to show that the names are ours."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        names: the first is the server's own.
        challenge: one of `CHALLENGES`.
    """

    names: tuple[str, ...]
    challenge: str


def request(config: Config, server: str) -> Request:
    """What *server* asks for.

    Raises:
        NoChallenge: it is reached by nobody, and its names are not in Route 53.
    """
    return Request(names(config, server), challenge(config, server))


def names(config: Config, server: str) -> tuple[str, ...]:
    """Every name by which clients reach *server*."""
    found = [config.servers[server].host]
    # Mail programs ask at names below each domain, which lead to the first webmail.
    if server == next((name for name, one in config.servers.items() if one.webmail), None):
        found += [f"{prefix}.{domain}" for domain in config.domains for prefix in CLIENT_HOSTS]
    if config.dns.failover:
        found += [f"{FAILOVER}.{domain}" for domain in config.domains]
    return tuple(dict.fromkeys(found))


def challenge(config: Config, server: str) -> str:
    """How *server* shows that the names are its own.

    Raises:
        NoChallenge: see `request`.
    """
    one = config.servers[server]
    # A name that leads to whoever is healthy leads a question by HTTP there too.
    if one.lightsail is not None and not config.dns.failover:
        return HTTP if one.webmail else ALONE
    if config.dns.route53:
        return DNS
    raise NoChallenge(
        f"server {server}: no certificate can be had: port 80 of {one.host} is not asked for "
        "(no [servers.*.lightsail], or dns.failover is on), and dns.route53 is off"
    )
