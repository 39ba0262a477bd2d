"""Which files of Python distributions an image gets: one for each pinned requirement and platform.

A requirements file of an image is complete: every distribution is named with ``==``, and nothing is added
by resolution. So an image can leave out what its programs never import, no resolver has to guess what
another platform needs, and no code of a distribution runs to ask for its dependencies.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from twinmail.errors import ConfigError, PermanentError
from twinmail.oci.index import Index, Remote
from twinmail.oci.lock import Wheel
from twinmail.oci.transport import PARALLEL

PYTHON = (3, 13)
# The C library of Debian 13: wheels for it and everything older run there (PEP 600).
GLIBC = (2, 41)
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}

_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.!+_-]+)(?P<rest>(\s+--hash=sha256:[0-9a-f]{64})*)"
)
_WHEEL = re.compile(
    r"(?P<name>[^-]+)-(?P<version>[^-]+)(-[0-9][^-]*)?-(?P<py>[^-]+)-(?P<abi>[^-]+)-(?P<plat>[^-]+)\.whl"
)
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_MANYLINUX = re.compile(r"manylinux_(?P<major>[0-9]+)_(?P<minor>[0-9]+)_(?P<machine>\w+)")


class WheelError(PermanentError):
    """A pinned distribution has no file that an image can use."""


@dataclass(frozen=True)
class Pin:
    """One line of a requirements file.

    Attributes:
        name: normalised project name (PEP 503).
        hashes: hex sha256 of the files allowed; empty allows all.
    """

    name: str
    version: str
    hashes: tuple[str, ...] = ()


def pins(path: Path) -> tuple[Pin, ...]:
    """Read the requirements file at *path*.

    Raises:
        ConfigError: a line is anything but ``name==version`` with hashes, or a name comes twice.
    """
    text = re.sub(r"\\\s*\n", " ", path.read_text("utf-8"))
    found: dict[str, Pin] = {}
    problems = []
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if not line:
            continue
        match = _PIN.fullmatch(line)
        if not match:
            problems.append(f"expected name==version, got {line.split(' --hash')[0]!r}")
        elif normalised(match["name"]) in found:
            problems.append(f"{match['name']} is listed twice")
        else:
            name = normalised(match["name"])
            hashes = re.findall(r"sha256:([0-9a-f]{64})", match["rest"])
            found[name] = Pin(name, match["version"], tuple(hashes))
    if problems:
        raise ConfigError(f"{path.parent.name}/{path.name}", problems)
    return tuple(found[name] for name in sorted(found))


def resolve(wanted: Iterable[Pin], platform: str, index: Index) -> tuple[Wheel, ...]:
    """The file of each pin for *platform*, sorted by name; a size that is not published is measured.

    Raises:
        WheelError: all pins without a usable file, one line each.
    """
    order = sorted(wanted, key=lambda pin: pin.name)
    with ThreadPoolExecutor(PARALLEL, "index") as pool:
        offers = list(pool.map(lambda pin: index.files(pin.name), order))
    found, problems = [], []
    for pin, offered in zip(order, offers, strict=True):
        remote = choose(pin, offered, platform)
        if remote is None:
            problems.append(f"  {pin.name} {pin.version}: {_why(pin, offered)}")
            problems += [f"    {one.url}: {one.why}" for one in index.failures(pin.name)]
        else:
            found.append(_wheel(pin, remote, index))
    if problems:
        raise WheelError("\n".join([f"no usable file for {platform}:", *problems]))
    return tuple(found)


def choose(pin: Pin, offered: Iterable[Remote], platform: str) -> Remote | None:
    """The best file for *platform*: the most specific wheel, else the source distribution, else None."""
    ranked: list[tuple[tuple[int, int, int], Remote]] = []
    for remote in offered:
        if pin.hashes and remote.sha256 not in pin.hashes:
            continue
        match = _WHEEL.fullmatch(remote.filename)
        if match and normalised(match["name"]) == pin.name and match["version"] == pin.version:
            ranks = [
                rank
                for py in match["py"].split(".")
                for abi in match["abi"].split(".")
                for plat in match["plat"].split(".")
                if (rank := _rank(py, abi, plat, MACHINES[platform])) is not None
            ]
            if ranks:
                ranked.append((max(ranks), remote))
        elif normalised(remote.filename.removesuffix(f"-{pin.version}.tar.gz")) == pin.name:
            ranked.append(((0, 0, 0), remote))
    # By name too: equal offers in another order must not give another lock.
    return max(ranked, key=lambda one: (one[0], one[1].filename))[1] if ranked else None


def normalised(name: str) -> str:
    """The project name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _rank(py: str, abi: str, plat: str, machine: str) -> tuple[int, int, int] | None:
    """How well a tag (PEP 425) fits, None if it does not: larger is more specific."""
    libc = _glibc(plat, machine)
    minor = int(py[3:]) if re.fullmatch(r"[cp][py]3[0-9]+", py) else 0
    if (plat != "any" and libc is None) or minor > PYTHON[1]:
        return None
    native = f"cp{PYTHON[0]}{PYTHON[1]}"
    if py == native and abi == native:
        return (4, minor, libc or 0)
    if py.startswith("cp3") and abi == "abi3":
        return (3, minor, libc or 0)
    if abi == "none" and (py in ("py3", native) or re.fullmatch(r"py3[0-9]+", py)):
        return (1 if plat == "any" else 2, minor, libc or 0)
    return None


def _glibc(plat: str, machine: str) -> int | None:
    """Minor version of the C library that *plat* asks for, None if it does not fit."""
    if plat == f"linux_{machine}":
        return 0
    if match := _MANYLINUX.fullmatch(plat):
        version = (int(match["major"]), int(match["minor"]))
        return version[1] if match["machine"] == machine and version <= GLIBC else None
    base, _, its = plat.partition("_")
    return _LEGACY[base][1] if base in _LEGACY and its == machine else None


def _why(pin: Pin, offered: Iterable[Remote]) -> str:
    files = [remote for remote in offered if f"-{pin.version}" in remote.filename]
    if not files:
        return "no index has this version"
    if pin.hashes and not any(remote.sha256 in pin.hashes for remote in files):
        return "no file of this version has one of the hashes listed"
    return f"none of its {len(files)} files is for this platform"


def _wheel(pin: Pin, remote: Remote, index: Index) -> Wheel:
    if remote.sha256 is None:
        raise WheelError(f"{remote.url}: the index gives no sha256 for it; use an index that does")
    size = remote.size or index.measure(remote)
    return Wheel(pin.name, pin.version, remote.filename, size, remote.sha256)
