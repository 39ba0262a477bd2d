"""A real ACME server (Debian's pebble) and the DNS it asks, on loopback ports of their own."""

import json
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.image.dovecot import free_port
from twinmail.local import pki

HOST = "127.0.0.1"
NOBODY = "127.0.0.9"
"""An address at which nothing listens."""
_SECONDS = 30.0


@dataclass(frozen=True)
class Authority:
    """The running server.

    Attributes:
        directory: its URL.
        ca: of its own certificate, which clients of it must trust.
        http: the port at which it looks for challenges by HTTP.
    """

    directory: str
    ca: Path
    http: int
    management: str
    dns: str

    def root(self) -> str:
        """The certificate (PEM) that all it issues is signed under."""
        return _ask(f"{self.management}/roots/0", context=ssl.create_default_context(cafile=self.ca)).decode()

    def resolve_to(self, address: str) -> None:
        """Let every name lead to *address*."""
        _ask(f"{self.dns}/set-default-ipv4", {"ip": address})

    def text(self, name: str, value: str) -> None:
        """Let *name* have the TXT record *value*."""
        _ask(f"{self.dns}/set-txt", {"host": name, "value": value})


@contextmanager
def run_authority(
    find: Callable[[str], Path], folder: Path, ca: Path, http: int, life_seconds: int
) -> Iterator[Authority]:
    """A server whose certificates live *life_seconds*, with its files in *folder*; *ca* signs its own."""
    folder.mkdir(parents=True)
    pki.ensure(ca, folder / "tls", ("localhost",))
    listen, management, dns, answers = (free_port() for _ in range(4))
    configuration = {
        "listenAddress": f"{HOST}:{listen}",
        "managementListenAddress": f"{HOST}:{management}",
        "certificate": str(folder / "tls" / pki.CERTIFICATE),
        "privateKey": str(folder / "tls" / pki.KEY),
        "httpPort": http,
        "tlsPort": free_port(),
        "certificateValidityPeriod": life_seconds,
        "retryAfter": {"authz": 1, "order": 1},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    program = find("pebble")
    # The pauses and errors that it makes by itself, to try clients, would make the tests' times chance.
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    off = ("-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
    names: list[str | Path] = [
        program.with_name("pebble-challtestsrv"),
        *off,
        "-defaultIPv6",
        "",
        "-defaultIPv4",
        HOST,
    ]
    with (
        _running([*names, "-dns01", f"{HOST}:{dns}", "-management", f"{HOST}:{answers}"], folder, {}),
        _running([program, "-config", folder / "pebble.json", "-dnsserver", f"{HOST}:{dns}"], folder, quick),
    ):
        found = Authority(
            f"https://{HOST}:{listen}/dir",
            ca / pki.CA,
            http,
            f"https://{HOST}:{management}",
            f"http://{HOST}:{answers}",
        )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                found.root()
                found.resolve_to(HOST)
                break
            except OSError as error:
                logs = "".join(path.read_text() for path in folder.glob("*.log"))
                assert time.monotonic() < deadline, f"{error}\n{logs}"
                time.sleep(0.05)
        yield found


@contextmanager
def _running(command: Sequence[str | Path], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _ask(url: str, document: object = None, context: ssl.SSLContext | None = None) -> bytes:
    data = None if document is None else json.dumps(document).encode()
    with urllib.request.urlopen(url, data, 5, context=context) as answer:
        body: bytes = answer.read()
        return body
