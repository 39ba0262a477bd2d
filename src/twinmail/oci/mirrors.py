"""Where Debian packages come from: the override, this machine's apt settings, the archive of the past."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from twinmail.oci.apt import Source, paragraphs

# The archive of Debian's past; the one host that may be named, because it alone keeps every version.
SNAPSHOT = "https://snapshot.debian.org/archive"

RELEASE = "trixie"
MAIN, SECURITY = "debian", "debian-security"
SUITES = ((MAIN, RELEASE), (MAIN, f"{RELEASE}-updates"), (SECURITY, f"{RELEASE}-security"))

# A mirror of any release of Debian has the pool of all of them; Ubuntu's code names are others.
_CODENAMES = "buster|bullseye|bookworm|trixie|forky|duke|sid|experimental"
_CLASSES = "oldoldstable|oldstable|stable|testing|unstable"
_SUITE = re.compile(rf"({_CODENAMES}|{_CLASSES})(-security|/updates|-updates|-backports|-proposed-updates)?")
_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


@dataclass(frozen=True)
class Mirrors:
    """Base URLs by preference, and what it takes to trust what they serve.

    Attributes:
        archives: base URLs by archive name (``debian``, ``debian-security``), best first.
        keyring: the public keys that may sign a Release file.
        state: folder for the state of the private apt.
        snapshot: base URL of the archive of the past.
        timestamp: the moment of the past that has what is wanted (`ImageLock.snapshot`); empty for now.
    """

    archives: Mapping[str, tuple[str, ...]]
    keyring: Path
    state: Path
    snapshot: str = SNAPSHOT
    timestamp: str = ""

    @classmethod
    def of_machine(
        cls, root: Path, override: str | None, etc: Path = Path("/etc/apt"), snapshot: str = SNAPSHOT
    ) -> "Mirrors":
        """The mirrors for the checkout at *root*.

        Args:
            override: a base URL with ``debian/`` and ``debian-security/`` below it, or the URL of the
                former; it is asked before the machine's mirrors.
            etc: the folder of the machine's apt settings.
        """
        archives = _apt_mirrors(etc)
        if override:
            base = override.rstrip("/").removesuffix(f"/{MAIN}")
            archives = {name: (f"{base}/{name}", *bases) for name, bases in archives.items()}
        keyring = root / "images" / "keys" / f"debian-archive-{RELEASE}.asc"
        return cls(archives, keyring, root / ".twinmail" / "apt", snapshot)

    def at(self, timestamp: str) -> "Mirrors":
        """The same mirrors, with the archive of the past at *timestamp*."""
        return replace(self, timestamp=timestamp)

    def urls(self, path: str) -> tuple[str, ...]:
        """Every URL that may have the package at *path* (`Package.path`), best first."""
        archive, _, rest = path.partition("/")
        quoted = rest.replace("+", "%2b").replace("~", "%7e")
        bases = [*self.archives.get(archive, ())]
        if self.timestamp:
            bases.append(f"{self.snapshot}/{archive}/{self.timestamp}")
        return tuple(f"{base}/{quoted}" for base in bases)

    def sources(self) -> Iterator[tuple[Source, ...]]:
        """Complete sets of sources for apt, best first: this machine's mirrors, then the past."""
        known = {archive: self.archives.get(archive, ()) for archive, _ in SUITES}
        if all(known.values()):
            for turn in range(max(len(bases) for bases in known.values())):
                pick = {archive: bases[min(turn, len(bases) - 1)] for archive, bases in known.items()}
                yield tuple(Source(pick[archive], suite) for archive, suite in SUITES)
        if self.timestamp:
            past = f"{self.snapshot}/{{}}/{self.timestamp}"
            yield tuple(Source(past.format(archive), suite, dated=True) for archive, suite in SUITES)

    def path(self, url: str) -> str:
        """Archive and pool path of a package that apt found at *url*: the opposite of `urls`."""
        for archive, bases in self.archives.items():
            for base in bases:
                if url.startswith(f"{base}/"):
                    return _unquote(f"{archive}/{url.removeprefix(f'{base}/')}")
        archive, _, rest = url.removeprefix(f"{self.snapshot}/").partition("/")
        return _unquote(f"{archive}/{rest.partition('/')[2]}")


def _unquote(text: str) -> str:
    return re.sub("%([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text)


def _apt_mirrors(etc: Path) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {MAIN: [], SECURITY: []}
    for uri, suite, components in _entries(etc):
        if not _SUITE.fullmatch(suite) or "main" not in components:
            continue
        archive = SECURITY if suite.endswith(("-security", "/updates")) else MAIN
        for base in _bases(uri):
            if base not in found[archive]:
                found[archive].append(base)
    # Small machines often name only the main archive; its mirrors nearly always have the security one beside.
    for base in found[MAIN]:
        beside = f"{base.removesuffix(MAIN)}{SECURITY}"
        if base.endswith(f"/{MAIN}") and beside not in found[SECURITY]:
            found[SECURITY].append(beside)
    return {archive: tuple(bases) for archive, bases in found.items()}


def _bases(uri: str) -> Iterator[str]:
    # Cloud images write mirror+file:/etc/apt/mirrors/debian.list, a list of URLs (apt-transport-mirror(1)).
    if uri.startswith("mirror+file:"):
        path = Path("/" + uri.removeprefix("mirror+file:").lstrip("/"))
        if path.is_file():
            for line in path.read_text("utf-8", "replace").splitlines():
                words = line.split()
                if words and not words[0].startswith("#"):
                    yield from _bases(words[0])
    elif uri.startswith(("http://", "https://")):
        yield uri.rstrip("/")


def _entries(etc: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Base URL, suite and components of every enabled binary source (sources.list(5), both formats)."""
    parts = sorted((etc / "sources.list.d").glob("*")) if (etc / "sources.list.d").is_dir() else []
    for path in [etc / "sources.list", *parts]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        text = "\n".join(
            line for line in path.read_text("utf-8", "replace").splitlines() if not line.startswith("#")
        )
        if path.suffix == ".list":
            for line in text.splitlines():
                if match := _ONE_LINE.match(line.partition("#")[0].strip()):
                    yield match["uri"], match["suite"], match["components"].split()
            continue
        for stanza in paragraphs(text):
            fields = {key.lower(): value for key, value in stanza.items()}
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no":
                for uri in fields.get("uris", "").split():
                    for suite in fields.get("suites", "").split():
                        yield uri, suite, fields.get("components", "").split()
