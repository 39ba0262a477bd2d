"""mmdebstrap, with the Debian packages of an image; from packages at hand, without the network.

*Unpacked* is what our images are made of: exactly the locked packages, and none of their scripts runs.
*Installed* is what one gets who names the same packages and has them installed: what they depend on comes
too, and the scripts run.
"""

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from bench.peers import NoPeer
from twinmail.oci import deb
from twinmail.oci.bytecode import host_platform
from twinmail.oci.lock import ImageLock
from twinmail.oci.mirrors import RELEASE, Mirrors
from twinmail.oci.spec import chain, load_all

NAME = "mmdebstrap"
# With what the packages' scripts need to run.
_INSTALLED = "essential"
_ARCHIVES = "/var/cache/apt/archives"
# What packages say of each other. Without it apt takes those that are named, and nothing more.
_RELATIONS = ("Depends", "Pre-Depends", "Provides", "Conflicts", "Breaks", "Replaces")


@dataclass(frozen=True)
class Mmdebstrap:
    """Makes archives of the packages of one image, in *folder*; see `prepare`."""

    folder: Path
    names: tuple[str, ...]
    asked: tuple[str, ...]

    def unpacked(self, suffix: str) -> tuple[float, int]:
        """Seconds and octets of an archive of the locked packages; *suffix* is ``.tar`` or ``.tar.gz``."""
        return self._made("extract", self.names, suffix, self.folder / "locked")

    def installed(self, suffix: str) -> tuple[float, int]:
        """Seconds and octets of an archive in which what the image asks for is installed."""
        return self._made(_INSTALLED, self.asked, suffix, self.folder / "newest")

    def _made(self, variant: str, names: Sequence[str], suffix: str, source: Path) -> tuple[float, int]:
        archive = self.folder / f"{variant}{suffix}"
        archive.unlink(missing_ok=True)
        seconds = _run(variant, names, archive, [f"deb [trusted=yes] copy://{source} ./"])
        return seconds, archive.stat().st_size


def prepare(root: Path, folder: Path, image: str, downloads: Path, mirrors: Mirrors | None) -> Mmdebstrap:
    """Have the packages of *image* of the checkout at *root* at hand in *folder*.

    Args:
        downloads: folder of the locked packages, by sha256.
        mirrors: where the packages come from that an installation needs; without, there will be none.

    Raises:
        NoPeer: mmdebstrap cannot be used here.
    """
    folder.mkdir(parents=True)
    specs = chain(load_all(root), image)
    locked = folder / "locked"
    locked.mkdir()
    names = []
    for spec in specs:
        for package in ImageLock.load(spec.lock_path).platforms[host_platform()].packages:
            names.append(package.name)
            shutil.copyfile(downloads / package.sha256, locked / f"{package.name}.deb")
    _index(locked, relations=False)
    asked = tuple(name for spec in specs for name in spec.packages)
    if mirrors:
        _download(asked, folder / "newest", mirrors)
    return Mmdebstrap(folder, tuple(names), asked)


def version() -> str:
    """Which one this machine has.

    Raises:
        NoPeer: none.
    """
    if not shutil.which(NAME):
        raise NoPeer(f"{NAME}: not found; install it: sh .ci/mmdebstrap")
    told = subprocess.run([NAME, "--version"], capture_output=True, text=True, check=False)
    return told.stdout.strip().removeprefix(f"{NAME} ")


def _download(names: Sequence[str], folder: Path, mirrors: Mirrors) -> None:
    sources = next(mirrors.sources(), None)
    if sources is None:
        raise NoPeer("no mirror of Debian is in this machine's apt settings; set TWINMAIL_DEBIAN_MIRROR")
    folder.mkdir()
    keep = ("--skip=essential/unlink,cleanup/apt/cache", f"--customize-hook=sync-out {_ARCHIVES} {folder}")
    lines = [one.line(mirrors.keyring) for one in sources]
    _run(_INSTALLED, names, Path("/dev/null"), lines, *keep)
    _index(folder, relations=True)


def _run(variant: str, names: Sequence[str], archive: Path, sources: Sequence[str], *more: str) -> float:
    options = [f"--variant={variant}", f"--include={','.join(names)}", *more]
    began = time.perf_counter()
    done = subprocess.run(
        [NAME, "--quiet", *options, RELEASE if more else "", str(archive), *sources],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise NoPeer(f"{NAME} {' '.join(options)}: {done.stderr.strip()[-800:]}")
    return seconds


def _index(folder: Path, relations: bool) -> None:
    """Make *folder*, which holds packages, a repository that apt reads."""
    paragraphs = []
    for path in sorted(folder.glob("*.deb")):
        octets = path.read_bytes()
        control = deb.control_files(path)["control"].decode().strip("\n")
        lines = control.split("\n")
        if not relations:
            lines = [one for one in lines if one.partition(":")[0] not in _RELATIONS]
        place = [f"Filename: ./{path.name}", f"Size: {len(octets)}", f"SHA256: {sha256(octets).hexdigest()}"]
        paragraphs.append("\n".join([*lines, *place, ""]))
    (folder / "Packages").write_text("\n".join(paragraphs))
