"""Python distributions as an installer unpacks them: wheels (binary distribution format) and pure sdists."""

import configparser
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from twinmail.errors import PermanentError
from twinmail.oci.lock import Wheel
from twinmail.oci.tree import Node, file

# Where Debian's Python finds packages, whatever its version; ours are the only ones there.
PLACE = "usr/lib/python3/dist-packages"

# Where the schemes of a wheel's ``.data`` folder go; scripts and headers are of no use in an image.
_SCHEMES = {"purelib": f"{PLACE}/", "platlib": f"{PLACE}/", "data": "usr/"}

# What a source distribution has beside the packages that it installs.
_UNINSTALLED = ("test", "tests", "doc", "docs", "example", "examples", "benchmark", "benchmarks")


class DistributionError(PermanentError):
    """A wheel or source distribution cannot be unpacked."""


def unpack(wheel: Wheel, path: Path) -> list[Node]:
    """The entries that installing *wheel*, whose file is at *path*, makes; console scripts are left out.

    Raises:
        DistributionError: the file is damaged or needs a build.
    """
    try:
        return list(_sdist(wheel, path) if wheel.is_sdist else _wheel(path))
    except (zipfile.BadZipFile, tarfile.TarError, KeyError, ValueError) as error:
        raise DistributionError(f"{wheel.filename}: {error}; remove {path} and fetch it again") from error


def metadata(name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]) -> list[Node]:
    """The ``.dist-info`` of our own packages: `importlib.metadata` finds their entry points by it."""
    folder = f"{PLACE}/{re.sub(r'[-_.]+', '_', name)}-{version}.dist-info"
    nodes = [
        file(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode())
    ]
    if entry_points:
        nodes.append(file(f"{folder}/entry_points.txt", _sections(entry_points)))
    return nodes


def _wheel(path: Path) -> Iterator[Node]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            place = _place(info.filename)
            if place is not None:
                # As pip does: only whether a file is executable counts (PEP 427 leaves the rest open).
                executable = (info.external_attr >> 16) & 0o111
                yield file(place, archive.read(info), 0o755 if executable else 0o644)


def _place(name: str) -> str | None:
    head, _, rest = name.partition("/")
    if not head.endswith(".data"):
        return f"{PLACE}/{name}"
    scheme, _, inner = rest.partition("/")
    return f"{_SCHEMES[scheme]}{inner}" if scheme in _SCHEMES else None


def _sdist(wheel: Wheel, path: Path) -> Iterator[Node]:
    """The packages of a pure Python source distribution, which need no build but to be copied."""
    with tarfile.open(path, "r:*") as archive:
        members = {one.name.partition("/")[2]: one for one in archive if one.isfile()}
        contents = {name: _read(archive, one) for name, one in members.items()}
    roots = _roots(wheel, contents)
    for name, content in contents.items():
        for prefix, tops in roots.items():
            inner = name.removeprefix(prefix)
            if name.startswith(prefix) and inner.partition("/")[0] in tops:
                yield file(f"{PLACE}/{inner}", content)
    folder = f"{PLACE}/{wheel.name.replace('-', '_')}-{wheel.version}.dist-info"
    yield file(f"{folder}/METADATA", contents["PKG-INFO"])
    points = [name for name in contents if name.endswith(".egg-info/entry_points.txt")]
    if points:
        yield file(f"{folder}/entry_points.txt", contents[points[0]])


def _roots(wheel: Wheel, contents: Mapping[str, bytes]) -> dict[str, set[str]]:
    """Top-level names to install by the folder they are in (``src/`` or the top)."""
    prefix = "src/" if any(name.startswith("src/") and name.endswith(".py") for name in contents) else ""
    listed = [name for name in contents if name.endswith(".egg-info/top_level.txt")]
    if listed:
        tops = set(contents[listed[0]].decode().split())
        return {prefix: tops | {f"{top}.py" for top in tops}}
    packages = {
        name.removeprefix(prefix).partition("/")[0]
        for name in contents
        if name.startswith(prefix)
        and name.removeprefix(prefix).count("/") == 1
        and name.endswith("/__init__.py")
    }
    tops = packages - set(_UNINSTALLED)
    if not tops:
        raise ValueError(f"{wheel.name} has no package that can be copied; pin a version that has a wheel")
    return {prefix: tops}


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def _sections(entry_points: Mapping[str, Mapping[str, str]]) -> bytes:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    for group in sorted(entry_points):
        parser[group] = dict(sorted(entry_points[group].items()))
    text = io.StringIO()
    parser.write(text)
    return text.getvalue().encode()
