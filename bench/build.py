"""How long images take to build, and their packages with mmdebstrap.

A copy of the sources is built by its own ``tasks.py``, in processes of their own as typed by hand. What it
keeps is in the copy too, so nothing of the checkout is used or changed. Each build is looked at: that the one
with nothing to do did nothing, that those from nothing and from kept layers are equal to the bit, that a
changed line is in an image.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench import build_peer
from bench.table import Table
from twinmail.errors import TransientError
from twinmail.oci.bytecode import host_platform
from twinmail.oci.cache import PLACE as DOWNLOADS
from twinmail.oci.mirrors import Mirrors

IMAGES = ("dovecot", "syncer")
COMPARED = "dovecot"
FIRST, COLD, WARM, NOOP, ONE_LINE = "first", "cold", "warm", "noop", "one_line"
ALONE = "alone"
"""Cold too, of the image alone that mmdebstrap makes."""
UNPACKED, PLAIN, INSTALLED = "mmdebstrap", "mmdebstrap_plain", "mmdebstrap_installed"

_SOURCES = ("src", "images", "localstack", "tasks.py", "requirements.lock")
CHANGED = Path("src/twinmail/sync/__main__.py")
_STATE = Path(".twinmail")
_TEXTS = {
    FIRST: "nothing here, downloads too",
    COLD: "cold: only downloads here",
    WARM: "warm: layers here, images away",
    NOOP: "no-op: nothing changed",
    ONE_LINE: "one line of the syncer changed",
    ALONE: "twinmail, cold, .tar.gz",
    UNPACKED: "mmdebstrap --variant=extract, the same packages, .tar.gz",
    PLAIN: "mmdebstrap --variant=extract, the same packages, .tar",
    INSTALLED: "mmdebstrap --variant=essential, installed by their scripts, .tar.gz",
}
_MB = 1_000_000

Say = Callable[[str], None]


class NotBuilt(TransientError):
    """A build failed, or did not do what was to be measured."""


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        version: of mmdebstrap.
        runs: seconds of each run, by what was done.
        octets: of what came of it, compressed or not as it says.
        shipped: octets of the layers that a changed line makes anew.
    """

    images: tuple[str, ...]
    compared: str
    platform: str
    version: str
    runs: Mapping[str, Sequence[float]]
    octets: Mapping[str, int]
    shipped: int

    def to_json(self) -> dict[str, Any]:
        """One object for scripts; a ratio is another's seconds by ours."""
        return {
            "seconds": {one: round(self._median(one), 2) for one in self.runs},
            "ratios": {one: self._ratio(one) for one in _others(self.runs)},
            "runs": {one: [round(each, 2) for each in runs] for one, runs in self.runs.items()},
            "octets": {**self.octets, ONE_LINE: self.shipped},
            "images": self.images,
            "compared": self.compared,
            "platform": self.platform,
            "mmdebstrap": self.version,
        }

    def tables(self) -> tuple[Table, ...]:
        """For people."""
        ours = Table(
            f"{' and '.join(self.images)} for {self.platform}; the changed line ships "
            f"{self.shipped / 1000:,.0f} KB",
            ("what there is before", "seconds", "from, to"),
            tuple(self._row(one) for one in (FIRST, COLD, WARM, NOOP, ONE_LINE)),
        )
        if ALONE not in self.runs:
            return (ours,)
        others = Table(
            f"{self.compared} for {self.platform}, packages here; mmdebstrap {self.version} writes one "
            "archive with documentation and all; ours writes layers, users, configuration, a variant with a "
            "shell and an SBOM",
            ("with", "seconds", "from, to", "MB", "times ours"),
            tuple(
                (*self._row(one), f"{self.octets[one] / _MB:.1f}", f"{self._ratio(one):.2f}")
                for one in (ALONE, *_others(self.runs))
            ),
        )
        return (ours, others)

    def _row(self, name: str) -> tuple[str, str, str]:
        runs = self.runs[name]
        return _TEXTS[name], f"{self._median(name):.2f}", f"{min(runs):.2f} to {max(runs):.2f}"

    def _median(self, name: str) -> float:
        return statistics.median(self.runs[name])

    def _ratio(self, name: str) -> float:
        return round(self._median(name) / self._median(ALONE), 2)


def measure(
    folder: Path,
    root: Path,
    mirrors: Mirrors | None,
    say: Say,
    images: tuple[str, ...] = IMAGES,
    compared: str = COMPARED,
    rounds: int = 3,
    downloads: Path | None = None,
) -> Result:
    """Measure in *folder*, which is emptied, with the sources of the checkout at *root*.

    Args:
        rounds: how often each is done, in turn.
        mirrors: where mmdebstrap gets what an installation needs; without, it installs nothing.
        downloads: folder of files by sha256 that need not be downloaded.

    Raises:
        TwinmailError: something is missing or fails.
    """
    version = build_peer.version()
    shutil.rmtree(folder, ignore_errors=True)
    copy = _Copy(folder / "sources", host_platform())
    copy.make(root, downloads)
    runs: dict[str, list[float]] = {}
    octets: dict[str, int] = {}

    def build(name: str, asked: Sequence[str]) -> None:
        say(_TEXTS[name])
        runs.setdefault(name, []).append(copy.build(asked))

    build(FIRST, images)
    peer = build_peer.prepare(root, folder / "peer", compared, copy.root / _STATE / DOWNLOADS, mirrors)
    others: dict[str, Callable[[], tuple[float, int]]] = {
        UNPACKED: partial(peer.unpacked, ".tar.gz"),
        PLAIN: partial(peer.unpacked, ".tar"),
        **({INSTALLED: partial(peer.installed, ".tar.gz")} if mirrors else {}),
    }
    before = copy.manifests
    for turn in range(rounds):
        copy.forget_work()
        build(COLD, images)
        _expect(copy.manifests == before, "from nothing the same images come")
        copy.forget_images()
        build(WARM, images)
        _expect(copy.manifests == before, "from kept layers the same images come")
        build(NOOP, images)
        _expect(copy.unchanged, "nothing is built when nothing changed")
        copy.change(turn)
        build(ONE_LINE, images)
        _expect(copy.manifests != before, "a changed line is in an image")
        before, shipped = copy.manifests, copy.shipped
        copy.forget_work()
        build(ALONE, (compared,))
        octets[ALONE] = copy.size(compared)
        for name, act in others.items():
            say(_TEXTS[name])
            os.sync()
            seconds, octets[name] = act()
            runs.setdefault(name, []).append(seconds)
    return Result(images, compared, host_platform(), version, runs, octets, shipped)


@dataclass
class _Copy:
    """A copy of the sources at *root*.

    Attributes:
        report: what the last build printed.
        blobs: digests of the layers that there were before it.
    """

    root: Path
    platform: str
    report: Mapping[str, Any] = field(default_factory=dict)
    blobs: frozenset[str] = frozenset()

    def make(self, source: Path, downloads: Path | None) -> None:
        ignored = shutil.ignore_patterns("__pycache__")
        for name in _SOURCES:
            target = self.root / name
            if (source / name).is_dir():
                shutil.copytree(source / name, target, symlinks=True, ignore=ignored)
            else:
                self.root.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, target)
        if downloads:
            shutil.copytree(downloads, self.root / _STATE / DOWNLOADS, copy_function=os.symlink)

    def build(self, images: Sequence[str]) -> float:
        """Seconds of a build."""
        self.blobs = frozenset(self._layers())
        asked = [word for image in images for word in ("--image", image)]
        command = [sys.executable, "tasks.py", "build", *asked, "--platform", self.platform, "--json"]
        os.sync()
        began = time.perf_counter()
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise NotBuilt(f"{' '.join(command[1:])}: {done.stderr.strip()[-800:]}")
        self.report = json.loads(done.stdout)
        return seconds

    def forget_images(self) -> None:
        shutil.rmtree(self.root / _STATE / "images")

    def forget_work(self) -> None:
        """All but the downloads."""
        self.forget_images()
        for path in (self.root / _STATE / "cache").iterdir():
            if path.name != DOWNLOADS.name:
                shutil.rmtree(path)

    def change(self, turn: int) -> None:
        with (self.root / CHANGED).open("a") as file:
            file.write(f"# {turn}\n")

    @property
    def manifests(self) -> dict[str, str]:
        """By image."""
        return {name: self._built(name)["manifest"] for name in self.report["images"]}

    @property
    def unchanged(self) -> bool:
        return bool(self.report["unchanged"])

    @property
    def shipped(self) -> int:
        """Octets of layers that were not there before the last build."""
        return sum(size for digest, size in self._layers().items() if digest not in self.blobs)

    def size(self, image: str) -> int:
        """Octets of all layers of *image*."""
        return sum(self._built(image)["sizes"])

    def _layers(self) -> dict[str, int]:
        images = [self._built(name) for name in self.report.get("images", {})]
        return {
            digest: size for one in images for digest, size in zip(one["layers"], one["sizes"], strict=True)
        }

    def _built(self, image: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.report["images"][image][self.platform]
        return found


def _expect(true: bool, what: str) -> None:
    if not true:
        raise NotBuilt(f"expected that {what}; it is not so, and the figures would be wrong")


def _others(runs: Mapping[str, Sequence[float]]) -> list[str]:
    return [one for one in (UNPACKED, PLAIN, INSTALLED) if one in runs]
