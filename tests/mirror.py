"""A Debian mirror and a package index, made from nothing in a folder and served with faults on request."""

import gzip
import hashlib
import io
import lzma
import tarfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pysequoia

from twinmail.oci.lock import Package
from twinmail.oci.mirrors import MAIN, SUITES, Mirrors

ARCHITECTURES = ("amd64", "arm64")


class Server(ThreadingHTTPServer):
    """Serves *folder* on loopback.

    Attributes:
        faults: answers by path, used up one by one before the file is served: a status code, ``truncate``
            (half the body, then the connection ends), ``corrupt`` (same size, other octets) or ``longer``.
        asked: every path asked for.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults: dict[str, list[int | str]] = defaultdict(list)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Base URL without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer with a fault or the file."""
        path = unquote(self.path)
        self.server.asked.append(path)
        faults = self.server.faults[path]
        fault = faults.pop(0) if faults else 200
        place = self.server.folder / path.lstrip("/")
        if place.is_dir():
            place = place / "index.html"
        if isinstance(fault, int) and (fault != 200 or not place.is_file()):
            self._answer(fault if fault != 200 else 404, b"no", 2)
            return
        body = place.read_bytes()
        length = len(body)
        if fault == "truncate":
            body = body[: length // 2]
        elif fault == "corrupt":
            body = bytes(octet ^ 1 for octet in body)
        elif fault == "longer":
            body, length = body + b"more", length + 4
        self._answer(200, body, length)

    def _answer(self, status: int, body: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)
        if len(body) < length:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A running `Server`."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Site:
    """A Debian archive and its security archive below *folder*; `publish` signs the indexes.

    Attributes:
        released: date of the Release files.
    """

    folder: Path
    released: datetime = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
    _stanzas: dict[tuple[str, str], dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    @cached_property
    def key(self) -> "pysequoia.Tsk":
        """The key that signs; thrown away with the test."""
        return pysequoia.Tsk.generate("Test archive <archive@example.org>")

    def add(
        self,
        name: str,
        version: str,
        depends: str = "",
        scripts: dict[str, str] | None = None,
        more: str = "",
    ) -> dict[str, Package]:
        """Put a package for each architecture into the pool and the next index; by platform."""
        found = {}
        for architecture in ARCHITECTURES:
            control = (
                f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: A <a@b.c>\n"
            )
            control += f"Depends: {depends}\n" if depends else ""
            control += more + "Description: for a test\n"
            octets = deb(control, scripts or {})
            path = f"pool/main/{name[0]}/{name}/{name}_{version}_{architecture}.deb"
            place = self.folder / MAIN / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(octets)
            digest = hashlib.sha256(octets).hexdigest()
            self._stanzas[MAIN, architecture][name] = (
                f"{control}Filename: {path}\nSize: {len(octets)}\nSHA256: {digest}\n"
            )
            found[f"linux/{architecture}"] = Package(name, version, f"{MAIN}/{path}", len(octets), digest)
        return found

    def publish(self, key: "pysequoia.Tsk | None" = None) -> None:
        """Write and sign the indexes of all suites; with another *key* nobody trusts them."""
        for archive, suite in SUITES:
            top = self.folder / archive / "dists" / suite
            lines = []
            for architecture in ARCHITECTURES:
                stanzas = self._stanzas[archive, architecture] if suite == SUITES[0][1] else {}
                plain = "\n".join(stanzas.values()).encode()
                # apt wants both listed, and asks for the compressed one.
                for suffix, octets in (("", plain), (".gz", gzip.compress(plain, mtime=0))):
                    name = f"main/binary-{architecture}/Packages{suffix}"
                    (top / name).parent.mkdir(parents=True, exist_ok=True)
                    (top / name).write_bytes(octets)
                    lines.append(f" {hashlib.sha256(octets).hexdigest()} {len(octets)} {name}")
            date = format_datetime(self.released).replace("+0000", "UTC")
            release = (
                f"Origin: Test\nLabel: Test\nSuite: {suite}\nCodename: {suite}\nDate: {date}\n"
                f"Architectures: {' '.join(ARCHITECTURES)}\nComponents: main\nSHA256:\n"
                + "\n".join(lines)
                + "\n"
            )
            signer = (key or self.key).signer()
            signed = pysequoia.sign(signer, release.encode(), mode=pysequoia.SignatureMode.CLEAR)
            (top / "InRelease").write_bytes(signed)

    def mirrors(self, state: Path, *bases: str, **settings: str) -> Mirrors:
        """What a machine with these base URLs would use, trusting only our key."""
        keyring = state / "keyring.asc"
        state.mkdir(parents=True, exist_ok=True)
        keyring.write_text(str(self.key.extract_certificate()), "ascii")
        archives = {archive: tuple(f"{base}/{archive}" for base in bases) for archive, _ in SUITES}
        return Mirrors(
            archives, keyring, state / "apt", **{"snapshot": "http://127.0.0.1:9/past", **settings}
        )


def deb(control: str, scripts: dict[str, str]) -> bytes:
    """A Debian package with these control files and one file that differs by version."""
    files = {"./control": control, **{f"./{name}": text for name, text in scripts.items()}}
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": _tar(files),
        "data.tar.xz": _tar({"./usr/share/doc/it": control}),
    }
    archive = b"!<arch>\n"
    for name, body in members.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode() + body
        archive += b"\n" * (len(body) % 2)
    return archive


def _tar(files: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tarball:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tarball.addfile(member, io.BytesIO(text.encode()))
    return lzma.compress(stream.getvalue())
