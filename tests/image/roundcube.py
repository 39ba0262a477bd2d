"""One webmail: the two containers of the Roundcube image in front of a Dovecot container."""

import json
import sqlite3
import ssl
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.image.dovecot import Dovecot, free_port
from tests.image.webmail_client import WebmailClient
from twinmail import webmail
from twinmail.local import pki
from twinmail.local import webmail as local_webmail
from twinmail.local.state import LOOPBACK
from twinmail.runtime.interface import Container, ContainerSpec, Mount, Running, Runtime
from twinmail.webmail import Service

START_SECONDS = 120.0
HOST = "mail.example.org"
ADDRESSES = {"ann": ("ann@example.org", "ann@example.net"), "bob": ("bob@example.org",)}


@dataclass
class Roundcube:
    """Starts, serves the users of *dovecot* on a loopback port, and stops.

    Attributes:
        folder: holds everything: ``web-etc``, ``php-etc``, ``socket``, ``buffer`` and ``data``.
        smtp_port: of a server with STARTTLS, if mail is to be sent.
    """

    runtime: Runtime
    layout: Path
    platform: str
    folder: Path
    dovecot: Dovecot
    reference: str | None = None
    port: int = field(default_factory=free_port)
    smtp_port: int = field(default_factory=free_port)
    web: Container | None = None
    php: Container | None = None

    @property
    def tls(self) -> ssl.SSLContext:
        return self.dovecot.tls

    @property
    def data(self) -> Path:
        """The volume, as the host sees it."""
        return self.folder / "data"

    def start(self, name: str = "roundcube") -> "Roundcube":
        web, php = self.folder / "web-etc", self.folder / "php-etc"
        ca = self.dovecot.folder / "tls"
        for folder in (web / webmail.FILES, php / "web"):
            folder.mkdir(parents=True, exist_ok=True)
        pki.ensure(ca, web / "tls", (HOST,))
        (php / pki.CA).write_bytes((ca / pki.CA).read_bytes())
        inside = "/etc/twinmail/ca.pem"
        settings = webmail.Settings(
            imap=Service(f"ssl://{LOOPBACK}:{self.dovecot.port}", "imap.example.org", inside),
            sieve=Service(f"ssl://{LOOPBACK}:{self.dovecot.sieve}", "imap.example.org", inside),
            smtp=Service(f"tls://{LOOPBACK}:{self.smtp_port}", "localhost", inside),
            hosts=(HOST, "localhost", LOOPBACK),
        )
        (php / webmail.SETTINGS).write_text(settings.to_json())
        self.permit(ADDRESSES)
        (php / webmail.SENDER).write_text(webmail.Sender("AKIA", "secret").to_json())
        (web / webmail.LISTEN).write_text(webmail.listen_conf(f"{LOOPBACK}:{self.port}", (HOST,)))
        for part in ("web-etc", "php-etc", "socket", "buffer", "data"):
            (self.folder / part).mkdir(exist_ok=True)
            self.runtime.prepare_volume(self.folder / part)
        self.php = self.runtime.start(
            ContainerSpec(
                name=f"{name}-php",
                layout=self.layout,
                platform=self.platform,
                command=local_webmail.PHP,
                mounts=(
                    Mount(php, "/etc/twinmail", read_only=True),
                    Mount(web / "web", "/etc/twinmail/web", read_only=True),
                    Mount(self.folder / "socket", "/run/php"),
                    Mount(self.data, "/var/lib/twinmail"),
                ),
                reference=self.reference,
            )
        )
        self.web = self.runtime.start(
            ContainerSpec(
                name=f"{name}-web",
                layout=self.layout,
                platform=self.platform,
                mounts=(
                    Mount(web, "/etc/twinmail", read_only=True),
                    Mount(self.folder / "socket", "/run/php"),
                    Mount(self.folder / "buffer", "/var/lib/twinmail"),
                ),
                reference=self.reference,
            )
        )
        deadline = time.monotonic() + START_SECONDS
        while not local_webmail.answers(LOOPBACK, self.port, self.tls):
            for container in (self.php, self.web):
                log = container.logs().decode()
                assert isinstance(container.status(), Running), (
                    f"{container.name}: {container.status()}\n{log}"
                )
                assert time.monotonic() < deadline, log
            time.sleep(0.05)
        return self

    def permit(self, addresses: dict[str, tuple[str, ...]]) -> None:
        """Write the file of identities: *addresses* by mailbox."""
        boxes = {name: {"name": name.title(), "addresses": list(own)} for name, own in addresses.items()}
        path = self.folder / "php-etc" / webmail.IDENTITIES
        path.with_suffix(".new").write_text(json.dumps({"mailboxes": boxes}))
        path.with_suffix(".new").replace(path)

    def stop(self) -> None:
        for container in (self.web, self.php):
            if container is not None:
                container.stop()

    def logs(self) -> str:
        """What both containers wrote."""
        both = [container for container in (self.web, self.php) if container is not None]
        return "".join(container.logs().decode("utf-8", "replace") for container in both)


_numbers = count(2)


def address() -> str:
    """A client's address that nobody had before, so that nobody's failures count against it."""
    number = next(_numbers)
    return f"127.0.{number // 250}.{number % 250 + 1}"


def client(server: Roundcube, at: str | None = None) -> WebmailClient:
    """A browser at *server* that comes from *at*, or from an address of its own."""
    return WebmailClient(server.port, server.dovecot.folder / "tls" / pki.CA, at or address())


def rows(server: Roundcube, sql: str, *values: object) -> list[tuple[object, ...]]:
    """What the webmail's database says."""
    with closing(sqlite3.connect(server.data / "roundcube.db")) as database:
        return database.execute(sql, values).fetchall()
