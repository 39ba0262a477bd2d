"""Are the builds repeatable? Everything twice, from copies of the sources, in surroundings that differ."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmail.errors import PermanentError
from twinmail.oci import difference
from twinmail.oci.builder import Builder, Place, Progress
from twinmail.oci.cache import PLACE as CACHE
from twinmail.oci.cache import Cache
from twinmail.oci.digests import Digests
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.report import BuildReport, Built
from twinmail.oci.spec import PLACES, chain, load_all

# What an image may be made of, besides what `PLACES` finds.
_SOURCES = ("src", "requirements.lock", "images/keys")


@dataclass(frozen=True)
class Surroundings:
    """What must not make a difference.

    Attributes:
        folder: where the copy of the sources is, below a temporary folder.
        umask: permissions that new files do not get.
        environment: variables that programs often depend on.
    """

    folder: str
    umask: int
    environment: Mapping[str, str]


TWICE = (
    Surroundings("a", 0o022, {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"}),
    Surroundings(
        "another folder/with a longer path",
        0o077,
        {
            "TZ": "Pacific/Chatham",
            "LC_ALL": "C.UTF-8",
            "PYTHONHASHSEED": "4000000000",
            "SOURCE_DATE_EPOCH": "1",
        },
    ),
)


def check(
    root: Path,
    names: Sequence[str],
    platforms: Sequence[str],
    mirrors: Mirrors,
    progress: Progress,
    surroundings: Sequence[Surroundings] = TWICE,
) -> list[str]:
    """Build the images *names* (all without any) of the checkout at *root* twice, without what is kept.

    Returns:
        Everything that differs between the two and from the committed digests, a line each.

    Raises:
        PermanentError, TransientError: as for a strict build.
    """
    state = root / ".twinmail"
    state.mkdir(exist_ok=True)
    specs = load_all(root)
    known = [name for name in specs if name != "debug"]
    wanted = {spec.name for name in names or known if name in specs for spec in chain(specs, name)}
    ordered = [name for name in specs if name in wanted and name in known]
    Builder(specs, Place.of(root), mirrors, progress, locked=True).fetch(ordered, platforms)
    with tempfile.TemporaryDirectory(prefix="check-", dir=state) as scratch:
        copies = [Path(scratch) / one.folder for one in surroundings]
        for number, copy in enumerate(copies):
            progress.step(
                "all images", f"build {number + 1} of {len(copies)}", str(surroundings[number].environment)
            )
            _copy(root, copy)
        running = [
            _start(copy, state / CACHE, ordered, platforms, one)
            for copy, one in zip(copies, surroundings, strict=True)
        ]
        reports = [_finish(process) for process in running]
        lines = []
        for name in ordered:
            for line in difference.layouts(*(report.layouts[name] for report in reports)):
                lines.append(f"{name}: {line}")
    return [*lines, *Digests.load(root).differences(reports[0])]


def _copy(root: Path, copy: Path) -> None:
    """Copy what images are made of: a build must not know where its sources are, nor since when."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    places = [path.parent for place in PLACES for path in root.glob(place)] + [root / one for one in _SOURCES]
    for source in places:
        target = copy / source.relative_to(root)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=ignored, copy_function=shutil.copy)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _start(
    copy: Path, cache: Path, names: Sequence[str], platforms: Sequence[str], surroundings: Surroundings
) -> subprocess.Popen[bytes]:
    order = json.dumps([str(copy), str(cache), list(names), list(platforms)])
    return subprocess.Popen(
        [sys.executable, "-m", "twinmail.oci.check", order],
        cwd=copy,
        env={"PYTHONPATH": str(copy / "src"), **surroundings.environment},
        umask=surroundings.umask,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _finish(process: subprocess.Popen[bytes]) -> BuildReport:
    output, errors = process.communicate()
    if process.returncode:
        raise PermanentError(f"a build for the check failed:\n{errors.decode(errors='replace').strip()}")
    document = json.loads(output)
    return BuildReport(
        {name: Path(path) for name, path in document["layouts"].items()},
        {
            name: {platform: Built.from_json(one) for platform, one in platforms.items()}
            for name, platforms in document["images"].items()
        },
    )


class _Quiet:
    """The progress of a build whose output is a report."""

    def start(self, files: int, octets: int) -> None:
        """Nothing is downloaded: the parent has seen to it."""

    def advance(self, name: str, octets: int) -> None:
        """Nothing is downloaded."""

    def warn(self, text: str) -> None:
        """A strict build has errors instead."""

    def step(self, image: str, platform: str, text: str) -> None:
        """Nobody looks."""


def _main(order: str) -> None:
    root, cache, names, platforms = json.loads(order)
    copy = Path(root)
    place = Place(copy, copy / "built", copy / "work", Cache(Path(cache)))
    mirrors = Mirrors({}, copy / "images" / "keys", copy / "apt")
    report = Builder(load_all(copy), place, mirrors, _Quiet(), locked=True).build(names, platforms)
    print(json.dumps(report.to_json()))


if __name__ == "__main__":
    _main(sys.argv[1])
