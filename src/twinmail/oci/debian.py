"""Which Debian packages an image needs, resolved from signed indexes."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from pathlib import Path

from twinmail.errors import PermanentError, TwinmailError
from twinmail.oci.apt import Apt, AptError, AptUnreachable, Download, paragraphs
from twinmail.oci.deb import control_files
from twinmail.oci.lock import Package
from twinmail.oci.mirrors import MAIN, SECURITY, Mirrors
from twinmail.oci.spec import PLATFORMS

DEFAULT_ARCHITECTURE = PLATFORMS[0].partition("/")[2]
SCRIPTS = ("config", "postinst", "postrm", "preinst", "prerm")

# The archive of the past takes up what is new every few hours, and mirrors keep what was superseded for a
# day: this long after its Release file, the past has every package that the file lists.
_SETTLED = timedelta(hours=12)


class ResolutionError(PermanentError):
    """The packages an image declares do not exist or do not fit together."""


@dataclass
class Archive:
    """Debian as the machine's mirrors serve it, with indexes downloaded once for each architecture."""

    mirrors: Mirrors
    _apts: dict[str, Apt] = field(default_factory=dict)

    def apt(self, architecture: str) -> Apt:
        """apt with verified indexes.

        Raises:
            AptError: the indexes are not signed by the committed keys.
            AptUnreachable: no mirror serves them.
        """
        if architecture in self._apts:
            return self._apts[architecture]
        problems: list[TwinmailError] = []
        for sources in self.mirrors.sources():
            apt = Apt(self.mirrors.state / architecture, architecture, self.mirrors.keyring, sources)
            try:
                apt.update()
            except (AptError, AptUnreachable) as error:
                # One not to be trusted is passed over like one that is down: the next is verified too.
                problems.append(error)
                continue
            self._apts[architecture] = apt
            return apt
        text = "\n".join(str(one) for one in problems)
        if any(isinstance(one, AptError) for one in problems):
            raise AptError(text)
        raise AptUnreachable(text or "no Debian mirror is known; set TWINMAIL_DEBIAN_MIRROR")

    def resolve(
        self,
        architecture: str,
        packages: Sequence[str],
        provided: Collection[str],
        installed: Collection[Mapping[str, str]],
    ) -> tuple[Package, ...]:
        """What *packages* add to an image, sorted by name; without the hashes of maintainer scripts.

        Args:
            provided: names taken for installed in their newest version.
            installed: control fields of the packages of the base images.

        Raises:
            ResolutionError: a name is unknown.
            AptError: they do not fit together.
        """
        if not packages:
            return ()
        apt = self.apt(architecture)
        # With nothing installed, so that what an earlier image had installed hides no candidate.
        apt.set_installed(())
        known = apt.show([*provided, *packages])
        if unknown := sorted({*provided, *packages} - set(known)):
            raise ResolutionError(f"Debian has no {', '.join(unknown)} for {architecture}; check the names")
        below = {control["Package"] for control in installed}
        absent = [name for name in packages if name not in below]
        # What a base image only provides may be wanted for real further up.
        stated = [known[name] for name in provided if name not in below and name not in absent]
        apt.set_installed([*installed, *stated])
        return tuple(self._package(download) for download in apt.install(absent)) if absent else ()

    def moment(self, architectures: Sequence[str]) -> tuple[int, str]:
        """Epoch (seconds since 1970) and snapshot timestamp of the verified indexes."""
        newest_date = max(self.apt(one).newest_release() for one in architectures)
        settled = (newest_date + _SETTLED).astimezone(UTC)
        return int(newest_date.timestamp()), settled.strftime("%Y%m%dT%H%M%SZ")

    def newest(self, name: str, architecture: str) -> Package:
        """The newest signed version of one package, whatever it depends on.

        Raises:
            ResolutionError: Debian has no such package any more.
        """
        apt = self.apt(architecture)
        control = apt.show([name]).get(name)
        if control is None:
            raise ResolutionError(f"Debian has no {name} for {architecture} any more")
        # Only the security archive keeps its pool below updates/.
        archive = SECURITY if control["Filename"].startswith("pool/updates/") else MAIN
        path = f"{archive}/{control['Filename']}"
        return Package(name, control["Version"], path, int(control["Size"]), control["SHA256"])

    def _package(self, one: Download) -> Package:
        return Package(one.name, one.version, self.mirrors.path(one.uri), one.size, one.sha256)


def newest(packages: Sequence[Package], mirrors: Mirrors) -> dict[str, Package]:
    """The newest signed version of each of *packages*, by the sha256 of the one that has vanished.

    Raises:
        ResolutionError, AptError, AptUnreachable: there is none to be had.
    """
    archive = Archive(mirrors)
    found = {}
    for package in packages:
        architecture = package.path.rpartition("_")[2].removesuffix(".deb")
        # Packages for all architectures are in the index of each.
        found[package.sha256] = archive.newest(
            package.name, DEFAULT_ARCHITECTURE if architecture == "all" else architecture
        )
    return found


def control(path: Path) -> dict[str, str]:
    """The control fields of the ``.deb`` at *path*.

    Raises:
        DebError: the file is not a Debian package.
    """
    return paragraphs(control_files(path)["control"].decode())[0]


def scripts(path: Path) -> dict[str, str]:
    """Hex sha256 by name of the maintainer scripts in the ``.deb`` at *path*.

    Raises:
        DebError: the file is not a Debian package.
    """
    files = control_files(path)
    return {name: hashlib.sha256(files[name]).hexdigest() for name in SCRIPTS if name in files}
