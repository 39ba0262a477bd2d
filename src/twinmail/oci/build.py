"""Bringing images up to date: nothing is done for those that are."""

import fcntl
from collections.abc import Mapping, Sequence
from pathlib import Path

from twinmail.errors import PermanentError
from twinmail.oci.builder import Builder, Place, Progress
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.report import BuildReport
from twinmail.oci.spec import DEBUG, FILE, PLATFORMS, ImageSpec, chain, load_all
from twinmail.oci.stamp import ALWAYS, Stamp, facts, survey, unchanged


def build(
    place: Place,
    names: Sequence[str],
    platforms: Sequence[str],
    mirrors: Mirrors,
    progress: Progress,
    locked: bool,
) -> BuildReport:
    """Build the images *names* (all without any), and what they stand on, unless that has been done.

    Args:
        platforms: for these, and for all for which the images were up to date.
        locked: stop if a locked file has vanished, instead of taking the newest version of it.

    Raises:
        PermanentError: no such image or platform; a lock or a declaration is wrong; a locked file has
            vanished and the build is strict; the lint has findings.
        TransientError: a locked file cannot be reached now.
    """
    place.output.mkdir(parents=True, exist_ok=True)
    with (place.output / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another build may be making the same; released with the file
        if done := unchanged(place.root, place.output, names, platforms, locked):
            return done
        specs = load_all(place.root)
        wanted = _wanted(specs, names, platforms)
        files = {name: survey(place.root, _places(specs, name, place.root)) for name in wanted}
        old = {name: Stamp.load(place.output / name) for name in wanted}
        also = {
            platform
            for name, stamp in old.items()
            if stamp and stamp.files == files[name] and bool(stamp.degraded) <= (not locked)
            for platform in stamp.built
        }
        report = Builder(specs, place, mirrors, progress, locked).build(wanted, sorted(also | set(platforms)))
        for name in wanted:
            index = facts(place.output / name / "index.json")
            Stamp(files[name], report.images[name], report.degraded, index).save(place.output / name)
        return report


def _wanted(specs: Mapping[str, ImageSpec], names: Sequence[str], platforms: Sequence[str]) -> list[str]:
    """The images *names* (all without any) and what they stand on, lowest first."""
    known = [name for name in specs if name != DEBUG]
    if unknown := sorted(set(names) - set(known)):
        raise PermanentError(f"no image {', '.join(unknown)}; known: {', '.join(known)}")
    if not platforms or set(platforms) - set(PLATFORMS):
        raise PermanentError(f"no platform {', '.join(platforms)!r}; known: {', '.join(PLATFORMS)}")
    needed = {spec.name for name in set(names) or set(known) for spec in chain(specs, name)}
    return [name for name in known if name in needed]


def _places(specs: Mapping[str, ImageSpec], name: str, root: Path) -> list[str]:
    """Everything in the checkout that decides about the image *name*."""
    places = [*ALWAYS]
    images = [*chain(specs, name), *([specs[DEBUG]] if DEBUG in specs else [])]
    for one in images:
        inside = [FILE, one.lock_path.name, one.rootfs.name, *filter(None, [one.python.requirements])]
        places += [str((one.folder / path).relative_to(root)) for path in inside]
        places += one.python.sources
    return list(dict.fromkeys(places))
