"""What the webmail image is told: the files it finds in /etc/twinmail, as text.

The two containers of the image see different folders there: the web server has no password, and PHP has no
private key. ``docs/webmail.md`` describes the files.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from twinmail.config import Config

SETTINGS = "webmail.json"
SENDER = "smtp.json"
IDENTITIES = "identities.json"
LISTEN = "web/listen.conf"
HTTP = "web/http.conf"
FILES = "web/files"

# The names under each domain at which mail programs ask how to set themselves up.
CLIENT_HOSTS = ("autoconfig", "autodiscover", "mta-sts")


@dataclass(frozen=True)
class Service:
    """A server that the webmail talks to, always inside TLS.

    Attributes:
        host: ``ssl://`` (TLS at once) or ``tls://`` (STARTTLS), address and port.
        name: what its certificate must be for.
        ca: the certificate authorities that may say so: a file in the PHP container.
    """

    host: str
    name: str
    ca: str = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Settings:
    """One webmail.

    Attributes:
        hosts: the names and addresses that people reach it by, without ports.
        product: what it calls itself in titles.
    """

    imap: Service
    sieve: Service
    smtp: Service
    hosts: tuple[str, ...]
    product: str = "Webmail"

    def to_json(self) -> str:
        """The text of ``webmail.json``."""
        return _json(asdict(self))


@dataclass(frozen=True)
class Sender:
    """The SMTP credential that all mail of the webmail is sent with."""

    user: str
    password: str = field(repr=False)

    def to_json(self) -> str:
        """The text of ``smtp.json``; it is a secret."""
        return _json(asdict(self))


def identities(config: Config) -> str:
    """The text of ``identities.json``: who may write as whom.

    The first address of a mailbox is the one it writes from unless its user chooses another.
    """
    return _json(
        {
            "mailboxes": {
                name: {"name": box.full_name, "addresses": list(config.addresses_of(name))}
                for name, box in config.mailboxes.items()
            }
        }
    )


def listen_conf(address: str, names: Sequence[str], *others: str) -> str:
    """The text of ``web/listen.conf``: nginx's statements on where to listen and for which *names*.

    Args:
        address: as nginx writes it: a port, or ``address:port``.
        others: more addresses.
    """
    lines = [f"listen {one} ssl;" for one in (address, *others)]
    lines.append(f"server_name {' '.join(names)};")
    return "".join(f"{line}\n" for line in lines)


def http_conf(*addresses: str, challenges: str) -> str:
    """The text of ``web/http.conf``: nginx's server for plain HTTP at *addresses*.

    It leads browsers to HTTPS, and shows the authority of the certificate what certbot puts into the folder
    *challenges* (RFC 8555, section 8.3).
    """
    lines = ["server {", *(f"    listen {one};" for one in addresses)]
    lines += [
        "    location /.well-known/acme-challenge/ {",
        f"        root {challenges};",
        "        default_type text/plain;",
        "    }",
        "    location / {",
        "        return 301 https://$host$request_uri;",
        "    }",
        "}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"
