"""The host's apt as resolver and signature verifier, with nothing of the host's state but its proxy.

Every Debian and Ubuntu has apt; its own package state, sources, keys and release do not matter here. apt
runs with a private configuration for one architecture, trusts only the keyring committed with the project,
and never installs anything: it downloads signed indexes and prints which files an installation would need.
"""

import re
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from twinmail.errors import PermanentError, TransientError

APT_GET, APT_CACHE, APT_CONFIG = "apt-get", "apt-cache", "apt-config"

# What is kept of the host's settings: how to reach the network, and nothing that decides what is trusted.
_NETWORK = re.compile(
    r"(Acquire::(https?|ftp|tor)(::[^ ]*)?::(Proxy|ProxyAutoDetect|Proxy-Auto-Detect|CaInfo|CaPath|SslCert"
    r'|SslKey|Timeout|User-Agent)(::[^ ]*)?|Acquire::Retries|Dir::Etc::netrc|Dir::Etc::netrcparts) "(.+)";',
    re.IGNORECASE,
)
_URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>[0-9]+) SHA256:(?P<sha256>[0-9a-f]{64})")


class AptError(PermanentError):
    """apt cannot resolve or verify what was asked for; the text has its words and the remedy."""


class AptUnreachable(TransientError):
    """apt cannot download the indexes from any mirror."""


@dataclass(frozen=True)
class Source:
    """One suite on one mirror: a line of ``sources.list``.

    Attributes:
        base: base URL of the archive, without a slash at the end.
        dated: whether the base is an archive of the past, whose Release files have expired.
        kind: ``deb``, or ``deb-src`` for source packages.
    """

    base: str
    suite: str
    components: tuple[str, ...] = ("main",)
    dated: bool = False
    kind: str = "deb"

    def line(self, keyring: Path) -> str:
        """The line; signatures by anything but *keyring* are refused."""
        options = f"signed-by={keyring}" + (" check-valid-until=no" if self.dated else "")
        return f"{self.kind} [{options}] {self.base} {self.suite} {' '.join(self.components)}"


@dataclass(frozen=True)
class Download:
    """One file that an installation needs.

    Attributes:
        uri: where apt would fetch it.
        size: octets.
        sha256: hex digest from the signed indexes.
    """

    name: str
    version: str
    uri: str
    size: int
    sha256: str


class Apt:
    """apt for one Debian architecture, with its state below *folder* (kept, so indexes are reused).

    Raises:
        AptError: this machine has no apt.
    """

    def __init__(self, folder: Path, architecture: str, keyring: Path, sources: Sequence[Source]) -> None:
        self.folder = folder.absolute()
        self.architecture = architecture
        self.keyring = keyring.absolute()
        self._sources = tuple(sources)
        self._write()

    def update(self) -> None:
        """Download the indexes and verify their signatures.

        Raises:
            AptError: a Release file is not signed by the committed keys, or has expired.
            AptUnreachable: a mirror does not answer.
        """
        result = self._run(APT_GET, "-q", "update", "-o", "APT::Update::Error-Mode=any")
        if result.returncode == 0:
            return
        text = _complaints(result.stderr)
        if re.search(r"NO_PUBKEY|not signed|signature|EXPKEYSIG|not valid yet|is expired|BADSIG", text):
            raise AptError(
                f"{self.keyring.name}: the Debian indexes for {self.architecture} are not to be trusted: "
                f"{text}; check the clock and the mirror, or update images/keys/ from a Debian you trust"
            )
        raise AptUnreachable(
            f"the Debian indexes for {self.architecture} cannot be downloaded: {text}; "
            "check the network, or set TWINMAIL_DEBIAN_MIRROR to a mirror that works"
        )

    def newest_release(self) -> datetime:
        """The newest date in the verified Release files (UTC).

        Raises:
            AptError: there is none; `update` was not run.
        """
        dates = []
        for path in (self.folder / "state" / "lists").glob("*Release"):
            found = re.search(r"^Date: (.+)$", path.read_text("utf-8", "replace"), re.MULTILINE)
            if found:
                dates.append(parsedate_to_datetime(found.group(1).replace("UTC", "+0000")))
        if not dates:
            raise AptError(f"{self.folder}/state/lists: no Release file; the indexes were not downloaded")
        return max(dates)

    def show(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """The candidate's control fields of each package by name; unknown names are absent."""
        wanted = sorted(set(names))
        if not wanted:
            return {}
        result = self._run(APT_CACHE, "--no-all-versions", "show", "--", *wanted)
        found = {one["Package"]: one for one in paragraphs(result.stdout)}
        return {name: found[name] for name in wanted if name in found}

    def install(self, names: Sequence[str]) -> tuple[Download, ...]:
        """What installing *names* would download, sorted by name.

        Raises:
            AptError: they cannot be installed together, or something installed would have to go.
        """
        flags = ["--yes", "--no-remove", "--no-install-recommends", "--print-uris", "-qq"]
        result = self._run(APT_GET, *flags, "install", "--", *names)
        if result.returncode != 0:
            # Only the loud simulation says which dependency is in the way.
            loud = self._run(APT_GET, "--simulate", "--no-remove", "install", "--", *names)
            why = loud.stdout.partition("\nThe following packages have unmet dependencies:\n")[2].strip()
            why = f"{loud.stderr.strip()}\n{why}".strip()
            raise AptError(f"{self.architecture}: {' '.join(names)} cannot be installed together: {why}")
        downloads = []
        for line in result.stdout.splitlines():
            match = _URI.match(line)
            if not match:
                raise AptError(f"{self.architecture}: expected a file with a SHA256 from apt, got {line!r}")
            name, version, _ = match["file"].removesuffix(".deb").split("_")
            version = version.replace("%3a", ":")
            downloads.append(Download(name, version, match["uri"], int(match["size"]), match["sha256"]))
        return tuple(sorted(downloads, key=lambda one: one.name))

    def source(self, name: str) -> tuple[Download, ...]:
        """The files of the source package *name*; needs sources of kind ``deb-src``.

        Raises:
            AptError: there is no such source package.
        """
        result = self._run(APT_GET, "--print-uris", "-qq", "source", "--download-only", "--", name)
        files = [match for line in result.stdout.splitlines() if (match := _URI.match(line))]
        if result.returncode != 0 or not files:
            raise AptError(f"no source package {name}: {_complaints(result.stderr)}")
        return tuple(
            Download(name, match["file"], match["uri"], int(match["size"]), match["sha256"])
            for match in files
        )

    def set_installed(self, controls: Collection[Mapping[str, str]]) -> None:
        """Take the packages with these control fields for installed.

        What they depend on is left out: the image above them declares it, or does without.
        """
        kept = ("Package", "Version", "Architecture", "Multi-Arch", "Provides", "Source")
        stanzas = []
        for control in sorted(controls, key=lambda one: one["Package"]):
            lines = [f"{key}: {control[key]}" for key in kept if key in control]
            lines += ["Status: install ok installed", "Maintainer: none", "Description: none"]
            stanzas.append("\n".join(lines) + "\n")
        (self.folder / "status").write_text("\n".join(stanzas), "utf-8")
        # They also must stay as they are: apt sees another build of the same version and would "upgrade" it.
        names = " ".join(sorted(control["Package"] for control in controls))
        pin = f"Package: {names}\nPin: release *\nPin-Priority: -1\n" if names else ""
        (self.folder / "etc" / "preferences").write_text(pin, "utf-8")

    def _write(self) -> None:
        for place in ("state/lists/partial", "cache/archives/partial", "etc/empty.d", "log"):
            (self.folder / place).mkdir(parents=True, exist_ok=True)
        sources = "".join(f"{one.line(self.keyring)}\n" for one in self._sources)
        (self.folder / "etc" / "sources.list").write_text(sources, "utf-8")
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures::": self.architecture,
            "APT::Install-Recommends": "false",
            # Indexes are verified whoever downloads them, and a sandbox user could not write here.
            "APT::Sandbox::User": "root",
            "Acquire::ForceHash": "SHA256",
            "Acquire::Languages": "none",
            "Acquire::Check-Valid-Until": "true",
            "Acquire::AllowInsecureRepositories": "false",
            "Debug::NoLocking": "true",
            "Dir::State": str(self.folder / "state"),
            "Dir::State::status": str(self.folder / "status"),
            "Dir::Cache": str(self.folder / "cache"),
            "Dir::Log": str(self.folder / "log"),
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": str(self.folder / "etc" / "empty.d"),
            "Dir::Etc::sourcelist": str(self.folder / "etc" / "sources.list"),
            "Dir::Etc::sourceparts": str(self.folder / "etc" / "empty.d"),
            "Dir::Etc::preferences": str(self.folder / "etc" / "preferences"),
            "Dir::Etc::preferencesparts": str(self.folder / "etc" / "empty.d"),
            "Dir::Etc::trusted": "/dev/null",
            "Dir::Etc::trustedparts": str(self.folder / "etc" / "empty.d"),
        }
        # One repetition is enough where another mirror can take over; the host's settings may want more.
        lines = ["#clear APT::Architectures;", 'Acquire::Retries "1";', *host_network()]
        lines += [f'{key} "{value}";' for key, value in settings.items()]
        (self.folder / "apt.conf").write_text("\n".join([*lines, ""]), "utf-8")
        self.set_installed(())

    def _run(self, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        # APT_CONFIG is read before the host's apt.conf.d, so pointing Dir::Etc::parts elsewhere in it keeps
        # the host's settings out.
        environment = ["env", f"APT_CONFIG={self.folder / 'apt.conf'}", "LC_ALL=C.UTF-8"]
        return _capture([*environment, command, *arguments])


def host_network() -> list[str]:
    """The lines of the host's apt settings that say how to reach the network.

    Raises:
        AptError: this machine has no apt.
    """
    dump = _capture([APT_CONFIG, "dump"]).stdout.splitlines()
    lines = []
    for line in dump:
        if (match := _NETWORK.fullmatch(line)) is None:
            continue
        key, value = line.split(" ", 1)[0], match.groups()[-1]
        if key.startswith("Dir::") and not value.startswith("/"):
            value = f"/etc/apt/{value}"
        lines.append(f'{key} "{value}";')
    return lines


def paragraphs(text: str) -> list[dict[str, str]]:
    """The stanzas of a control file (deb-control(5)); continuation lines are joined."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t"):
                fields[key] = f"{fields[key]} {line.strip()}"
            elif ":" in line:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            found.append(fields)
    return found


def _capture(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        result = None
    if result is None or result.returncode == 127:
        raise AptError(
            "this machine has no apt, which resolves and verifies Debian packages; "
            "lock on a Debian or Ubuntu machine (building from locks needs none)"
        )
    return result


def _complaints(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith(("E:", "W:"))]
    return "; ".join(line[2:].strip() for line in lines) or stderr.strip() or "no reason given"
