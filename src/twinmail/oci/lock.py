"""``image.lock``: exactly which bytes an image is made of.

The file is canonical JSON with one package or wheel a line, so that an update reads well as a diff. It
names no host: paths are relative to whatever mirror serves the archive.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from twinmail.errors import PermanentError
from twinmail.oci.spec import PLATFORMS

VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SNAPSHOT = re.compile(r"[0-9]{8}T[0-9]{6}Z")


Entry = TypeVar("Entry", "Package", "Wheel")


class LockError(PermanentError):
    """``image.lock`` is missing, damaged or does not belong to its ``image.toml``."""


@dataclass(frozen=True)
class Package:
    """One Debian binary package.

    Attributes:
        path: archive and pool path, ``debian/pool/main/…`` or ``debian-security/pool/updates/main/…``.
        size: octets of the ``.deb``.
        sha256: hex digest of the ``.deb``.
        scripts: hex sha256 by name (``postinst``, …) of its maintainer scripts, none of which is ever run.
    """

    name: str
    version: str
    path: str
    size: int
    sha256: str
    scripts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wheel:
    """One Python distribution file: a wheel, or an sdist where no wheel exists (see `is_sdist`).

    Attributes:
        name: normalised project name (PEP 503).
        filename: ``boto3-1.40.0-py3-none-any.whl``.
        size: octets of the file.
        sha256: hex digest of the file.
    """

    name: str
    version: str
    filename: str
    size: int
    sha256: str

    @property
    def is_sdist(self) -> bool:
        """Whether the file is a source distribution; only pure Python ones are locked."""
        return not self.filename.endswith(".whl")


@dataclass(frozen=True)
class PlatformLock:
    """What one platform of an image adds to its base; both tuples are sorted by name."""

    packages: tuple[Package, ...] = ()
    wheels: tuple[Wheel, ...] = ()

    @property
    def octets(self) -> int:
        """Size of all files."""
        return sum(one.size for one in self.packages) + sum(one.size for one in self.wheels)


@dataclass(frozen=True)
class ImageLock:
    """One ``image.lock``.

    Attributes:
        epoch: seconds since 1970 of the newest Release file used; every mtime in the image is this.
        snapshot: timestamp (``20261123T084512Z``) at which a Debian archive of the past has every package.
        inputs: hex sha256 of what was resolved; differs when ``image.toml`` asks for something else now.
        platforms: by platform name, ``linux/amd64``.
    """

    epoch: int
    snapshot: str
    inputs: str
    platforms: Mapping[str, PlatformLock]
    version: int = VERSION

    def to_text(self) -> str:
        """The canonical text; equal locks have equal text."""
        lines = [
            "{",
            f'"version": {self.version},',
            f'"epoch": {self.epoch},',
            f'"snapshot": {json.dumps(self.snapshot)},',
            f'"inputs": {json.dumps(self.inputs)},',
            '"platforms": {',
        ]
        last = len(self.platforms) - 1
        for index, (name, one) in enumerate(sorted(self.platforms.items())):
            lines.append(f"{json.dumps(name)}: {{")
            lines += ['"packages": [', *_rows(_package_row(entry) for entry in one.packages), "],"]
            lines += ['"wheels": [', *_rows(vars(entry) for entry in one.wheels), "]"]
            lines.append("}" if index == last else "},")
        return "\n".join([*lines, "}", "}", ""])

    def save(self, path: Path) -> None:
        """Write the lock to *path* atomically."""
        partial = path.with_name(f".{path.name}.new")
        partial.write_text(self.to_text(), "utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "ImageLock":
        """Read and check the lock at *path*.

        Raises:
            LockError: the file is missing, not a lock of this version, or has a damaged entry.
        """
        where = f"{path.parent.name}/{path.name}"
        remedy = f'run "./inv lock --image {path.parent.name}"'
        try:
            document = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise LockError(f"{where}: missing; {remedy}") from None
        except (OSError, ValueError) as error:
            raise LockError(f"{where}: not a lock: {error}; restore it from git or {remedy}") from error
        if not isinstance(document, dict) or document.get("version") != VERSION:
            got = document.get("version") if isinstance(document, dict) else type(document).__name__
            raise LockError(f"{where}: expected lock version {VERSION}, got {got!r}; {remedy}")
        try:
            return _parse(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise LockError(f"{where}: damaged: {text}; restore it from git or {remedy}") from error


def _package_row(package: Package) -> dict[str, Any]:
    row = dict(vars(package))
    row["scripts"] = dict(sorted(package.scripts.items()))
    if not row["scripts"]:
        del row["scripts"]
    return row


def _rows(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    return [f"{row}," for row in rows[:-1]] + rows[-1:]


def _parse(document: Mapping[str, Any]) -> ImageLock:
    platforms = {
        name: PlatformLock(
            packages=tuple(_checked(Package(**entry)) for entry in body["packages"]),
            wheels=tuple(_checked(Wheel(**entry)) for entry in body["wheels"]),
        )
        for name, body in document["platforms"].items()
    }
    if sorted(platforms) != sorted(PLATFORMS):
        raise ValueError(f"expected platforms {', '.join(PLATFORMS)}, got {', '.join(platforms) or 'none'}")
    epoch, snapshot, inputs = document["epoch"], document["snapshot"], document["inputs"]
    if not isinstance(epoch, int) or epoch <= 0:
        raise ValueError(f"epoch: expected seconds since 1970, got {epoch!r}")
    if not isinstance(snapshot, str) or not _SNAPSHOT.fullmatch(snapshot):
        raise ValueError(f"snapshot: expected YYYYMMDDTHHMMSSZ, got {snapshot!r}")
    if not isinstance(inputs, str) or not _SHA256.fullmatch(inputs):
        raise ValueError(f"inputs: expected a sha256, got {inputs!r}")
    return ImageLock(epoch, snapshot, inputs, platforms)


def _checked(entry: Entry) -> Entry:
    texts = [entry.name, entry.version, entry.path if isinstance(entry, Package) else entry.filename]
    if not all(isinstance(one, str) and one for one in texts):
        raise ValueError(f"{entry.name!r}: expected texts, got {texts!r}")
    if not isinstance(entry.size, int) or entry.size <= 0:
        raise ValueError(f"{entry.name}: size: expected octets, got {entry.size!r}")
    if not isinstance(entry.sha256, str) or not _SHA256.fullmatch(entry.sha256):
        raise ValueError(f"{entry.name}: sha256: expected 64 hex digits, got {entry.sha256!r}")
    # Paths become URLs and file names: none may leave its folder.
    if ".." in texts[2].split("/") or texts[2].startswith("/"):
        raise ValueError(f"{entry.name}: expected a relative path, got {texts[2]!r}")
    return entry
