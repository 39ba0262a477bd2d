"""Package indexes for Python distributions, as this machine's pip is configured for them.

Pages are read by the simple repository API (JSON, PEP 691; HTML, PEP 503). No host is known here: pip says
which index it uses.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import urllib3

from twinmail.errors import PermanentError
from twinmail.oci.transport import Attempt, Transport

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_DEFAULT = re.compile(r"--index-url\s+<url>.*?\(default\s+(\S+?)\)", re.DOTALL)
_SETTING = re.compile(r"(?P<section>[^.]+)\.(?P<key>[^=]+)='(?P<value>.*)'")
# Later sections override earlier ones, as in pip.
_SECTIONS = ("global", "install", "download", ":env:")


class IndexUnknown(PermanentError):
    """The machine's pip cannot say where distributions come from."""


@dataclass(frozen=True)
class Remote:
    """One file that an index offers.

    Attributes:
        sha256: hex digest as the page gives it, or None.
        size: octets as the page gives them, or None.
    """

    filename: str
    url: str
    sha256: str | None = None
    size: int | None = None


@dataclass
class Index:
    """The indexes and folders that pip would search, in its order.

    Attributes:
        pages: base URLs of simple indexes.
        folders: local folders with distribution files.
    """

    transport: Transport
    pages: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    _known: dict[tuple[str, str], tuple[Remote, ...]] = field(default_factory=dict)
    _failed: dict[tuple[str, str], Attempt] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of_machine(cls, transport: Transport) -> "Index":
        """What pip is configured for; its CA certificates and proxy apply to the pages as well.

        Raises:
            IndexUnknown: pip does not answer.
        """
        return cls.of_settings(transport, pip_settings(_pip("config", "list")))

    @classmethod
    def of_settings(cls, transport: Transport, settings: Mapping[str, str]) -> "Index":
        """The index that pip's *settings* name."""
        pages = []
        if settings.get("no-index", "").lower() not in ("1", "true", "yes", "on"):
            pages = [
                settings.get("index-url") or _default_page(),
                *settings.get("extra-index-url", "").split(),
            ]
        folders = [_local_path(one) for one in settings.get("find-links", "").split()]
        if proxy := settings.get("proxy"):
            transport = Transport({"http": proxy, "https": proxy}, transport.certificates, transport.pause)
        if (ca := settings.get("cert")) and Path(ca).is_file():
            transport = Transport(transport.proxies, Path(ca), transport.pause)
        return cls(
            transport,
            tuple(page.rstrip("/") for page in pages if page.startswith(("http://", "https://"))),
            tuple(path for path in folders if path is not None and path.is_dir()),
        )

    def local(self, filename: str) -> Path | None:
        """The file in one of the local folders, or None."""
        for folder in self.folders:
            if (folder / filename).is_file():
                return folder / filename
        return None

    def urls(self, name: str, filename: str) -> Iterator[str]:
        """Where *filename* of the project *name* is, one index after the other."""
        for page in self.pages:
            for remote in self._page(page, name):
                if remote.filename == filename:
                    yield remote.url

    def files(self, name: str) -> Sequence[Remote]:
        """Everything that the first index which knows the project *name* offers of it."""
        for page in self.pages:
            if found := self._page(page, name):
                return found
        return ()

    def measure(self, remote: Remote) -> int:
        """Octets of a file whose page does not give them.

        Raises:
            IndexUnknown: it cannot be downloaded.
        """
        octets = 0

        def receive(_: str, response: urllib3.BaseHTTPResponse) -> None:
            nonlocal octets
            octets = sum(len(block) for block in self.transport.blocks(response))

        if failed := self.transport.first([remote.url], receive):
            raise IndexUnknown(f"{remote.url}: {failed[0].why}")
        return octets

    def failures(self, name: str) -> tuple[Attempt, ...]:
        """Why pages of the project *name* could not be read."""
        with self._guard:
            return tuple(one for (_, its), one in self._failed.items() if its == name)

    def _page(self, page: str, name: str) -> tuple[Remote, ...]:
        key = (page, name)
        with self._guard:
            if key in self._known:
                return self._known[key]
        found: list[Remote] = []

        def receive(url: str, response: urllib3.BaseHTTPResponse) -> None:
            body = b"".join(self.transport.blocks(response))
            # After a redirect the path may be all that is known of where the page is.
            where = urljoin(url, response.geturl() or "")
            found.extend(parse_page(where, response.headers.get("Content-Type", ""), body))

        failed = self.transport.first([f"{page}/{name}/"], receive, {"Accept": _ACCEPT})
        with self._guard:
            self._known[key] = tuple(found)
            if failed:
                self._failed[key] = failed[0]
        return tuple(found)


def parse_page(url: str, media_type: str, body: bytes) -> list[Remote]:
    """The files on the index page at *url*; relative links are resolved."""
    if "json" in media_type:
        return [
            Remote(one["filename"], urljoin(url, one["url"]), one["hashes"].get("sha256"), one.get("size"))
            for one in json.loads(body)["files"]
        ]
    links = _Links()
    links.feed(body.decode("utf-8", "replace"))
    found = []
    for link in links.found:
        parts = urlsplit(urljoin(url, link))
        digest = parts.fragment.removeprefix("sha256=") if parts.fragment.startswith("sha256=") else None
        filename = unquote(parts.path.rpartition("/")[2])
        found.append(Remote(filename, parts._replace(fragment="").geturl(), digest))
    return found


def pip_settings(listing: str) -> dict[str, str]:
    """The settings that apply to ``pip download``, from the output of ``pip config list``."""
    settings: dict[str, str] = {}
    rows = [match for line in listing.splitlines() if (match := _SETTING.fullmatch(line.strip()))]
    for section in _SECTIONS:
        settings |= {
            row["key"]: row["value"].replace("\\n", " ") for row in rows if row["section"] == section
        }
    return settings


def _default_page() -> str:
    # Only pip's own help names its default index without reaching into its internals.
    text = _pip("download", "--help")
    if match := _DEFAULT.search(text):
        return match[1]
    raise IndexUnknown("pip does not say which index it uses; set index-url in pip's configuration")


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise IndexUnknown(
            f"{' '.join(command)}: {result.stderr.strip()}; repair the virtual environment (./inv)"
        )
    return result.stdout


def _local_path(link: str) -> Path | None:
    if link.startswith("file:"):
        return Path(unquote(urlsplit(link).path))
    return None if "://" in link else Path(link).expanduser()


class _Links(HTMLParser):
    """Collects the targets of all links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the link of an anchor."""
        if tag == "a":
            self.found += [value for key, value in attrs if key == "href" and value]
