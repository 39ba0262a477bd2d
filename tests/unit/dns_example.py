"""A configuration and what AWS says of it, for the tests of records."""

from collections.abc import Mapping
from dataclasses import replace

from twinmail.config import Config
from twinmail.dns.known import Identity, Known
from twinmail.dns.record_set import RecordSet, named
from twinmail.dns.wanted import wanted
from twinmail.production import Dns

TOML = """
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org", "example.net"]
operator = "ann+ops@example.org"

[mailboxes.ann]
addresses = ["ann@example.org", "*@example.net"]

[servers.primary]
platform = "linux/arm64"
host = "primary.example.org"
addresses = ["home.example.com"]

[servers.backup]
platform = "linux/amd64"
host = "backup.example.org"
webmail = true
submission = true

[servers.backup.lightsail]
ssh_from = ["203.0.113.7/32"]
"""

CONFIG = Config.parse(TOML)
KNOWN = Known(
    {
        domain: Identity((f"{domain[-1]}1", f"{domain[-1]}2"), "SUCCESS", f"bounce.{domain}", "SUCCESS")
        for domain in CONFIG.domains
    },
    {"backup": "198.51.100.7"},
)
WANTED = wanted(CONFIG, KNOWN)


def with_dns(config: Config = CONFIG, **changes: object) -> Config:
    """*config* with changes of its table ``[dns]``."""
    return replace(config, dns=replace(config.dns, **changes))


def with_server(name: str, config: Config = CONFIG, **changes: object) -> Config:
    """*config* with changes of a server."""
    return replace(config, servers={**config.servers, name: replace(config.servers[name], **changes)})


def at(name: str, kind: str, config: Config = CONFIG, known: Known = KNOWN) -> RecordSet | None:
    """The wanted set with this name and type."""
    return named(wanted(config, known).sets, name, kind)


def identities(**changes: object) -> Mapping[str, Identity]:
    """What SES says, with changes of one domain."""
    return {**KNOWN.identities, "example.org": replace(KNOWN.identities["example.org"], **changes)}


assert CONFIG.dns == Dns()
