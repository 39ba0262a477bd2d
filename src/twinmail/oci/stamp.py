"""Whether anything that an image is made of has changed since it was built, known from file times alone.

This is what makes a build with nothing to do cost nothing, so nothing heavy is imported here. A file that
only looks changed (a fresh checkout) costs little too: its layers are found by content.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmail.oci.report import BuildReport, Built
from twinmail.oci.spec import DEBUG, PLACES

# The code that builds, and the lock that pins the compressor.
ALWAYS = ("src/twinmail/oci", "src/twinmail/__init__.py", "requirements.lock")


@dataclass(frozen=True)
class Stamp:
    """What the images were built from.

    Attributes:
        files: by file or folder, from the top of the checkout: time, size and mode of each file at or below.
        built: by platform.
        degraded: as `BuildReport.degraded`.
        index: time and size of the ``index.json`` that was written.
    """

    files: Mapping[str, Mapping[str, Sequence[int]]]
    built: Mapping[str, Built]
    degraded: tuple[str, ...]
    index: Sequence[int]

    @classmethod
    def load(cls, layout: Path) -> "Stamp | None":
        """The stamp of the image in *layout*; None if there is none that can be read."""
        try:
            document: dict[str, Any] = json.loads(_path(layout).read_bytes())
            built = {name: Built.from_json(one) for name, one in document["built"].items()}
            return cls(document["files"], built, tuple(document["degraded"]), document["index"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, layout: Path) -> None:
        """Keep the stamp beside *layout*."""
        document = {
            "files": self.files,
            "built": {name: one.to_json() for name, one in self.built.items()},
            "degraded": self.degraded,
            "index": self.index,
        }
        partial = _path(layout).with_name(f".{layout.name}.stamp.new")
        partial.write_text(json.dumps(document))
        partial.replace(_path(layout))

    def holds(self, layout: Path, now: Mapping[str, Mapping[str, Sequence[int]]]) -> bool:
        """Whether *layout* is there as written and its files are as `survey` finds them *now*."""
        same = all(now.get(place) == files for place, files in self.files.items())
        return same and self.index == facts(layout / "index.json")


def survey(root: Path, places: Iterable[str]) -> dict[str, dict[str, list[int]]]:
    """Time, size and mode of every file at or below each of *places* of the checkout at *root*."""
    result: dict[str, dict[str, list[int]]] = {}
    for place in places:
        result[place] = {}
        _walk(str(root / place), place, result[place])
    return result


def facts(path: Path) -> list[int]:
    """Time and size of the file at *path*; empty if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size]


def _walk(path: str, name: str, found: dict[str, list[int]]) -> None:
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name == "__pycache__":
                    continue
                inner = f"{name}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    _walk(entry.path, inner, found)
                else:
                    found[inner] = _status(entry.stat(follow_symlinks=False))
    except NotADirectoryError:
        found[name] = _status(os.stat(path))  # noqa: PTH116
    except FileNotFoundError:
        pass  # an image without rootfs/, for example; appearing counts as a change


def _status(status: os.stat_result) -> list[int]:
    return [status.st_mtime_ns, status.st_size, status.st_mode]


def _path(layout: Path) -> Path:
    return layout.with_name(f"{layout.name}.stamp.json")


def unchanged(
    root: Path, output: Path, names: Iterable[str], platforms: Sequence[str], locked: bool
) -> BuildReport | None:
    """The report of the images *names* (all without any) if they are built for *platforms* and up to date.

    Args:
        output: folder of the layouts.
        locked: whether a build that is not as locked counts as none.
    """
    declared = [path.parent.name for place in PLACES for path in sorted(root.glob(place))]
    wanted = list(names) or [name for name in declared if name != DEBUG]
    stamps: dict[str, Stamp] = {}
    for name in wanted:
        stamp = Stamp.load(output / name)
        if stamp is None or not set(platforms) <= set(stamp.built) or (locked and stamp.degraded):
            return None
        stamps[name] = stamp
    # Looked at last and together, since images share most of their files.
    now = survey(root, {place for stamp in stamps.values() for place in stamp.files})
    if not all(stamp.holds(output / name, now) for name, stamp in stamps.items()):
        return None
    return BuildReport(
        {name: output / name for name in wanted},
        {name: stamp.built for name, stamp in stamps.items()},
        tuple(dict.fromkeys(line for stamp in stamps.values() for line in stamp.degraded)),
        unchanged=True,
    )
