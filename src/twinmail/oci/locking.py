"""Making locks: resolve what the images declare, and say what changed and what a person must look at."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from twinmail.errors import PermanentError
from twinmail.oci import debian, wheels
from twinmail.oci.cache import Cache
from twinmail.oci.debian import Archive
from twinmail.oci.fetch import Progress, fetch_all
from twinmail.oci.index import Index
from twinmail.oci.lock import ImageLock, LockError, Package, PlatformLock, Wheel
from twinmail.oci.mirrors import RELEASE, SUITES, Mirrors
from twinmail.oci.network import transport_of_machine
from twinmail.oci.spec import PLATFORMS, ImageSpec, chain
from twinmail.oci.transport import Transport


@dataclass(frozen=True)
class Report:
    """What locking one image did.

    Attributes:
        changes: one line for each package or wheel that is new, gone or of another version.
        flags: maintainer scripts that are new or changed: the image declares what they would have done, so
            somebody must read them.
        counts: packages and wheels by platform.
        octets: size of all files.
    """

    image: str
    changes: tuple[str, ...]
    flags: tuple[str, ...]
    counts: Mapping[str, tuple[int, int]]
    octets: int


def inputs(specs: Mapping[str, ImageSpec], name: str) -> str:
    """Hex sha256 of everything that resolution of *name* depends on in the checkout.

    Raises:
        ConfigError: the requirements file is malformed.
    """
    parts = []
    for spec in chain(specs, name):
        path = spec.requirements_path
        parts.append(
            {
                "packages": sorted(spec.packages),
                "provided": sorted(spec.provided),
                "wheels": [[pin.name, pin.version, *sorted(pin.hashes)] for pin in wheels.pins(path)]
                if path
                else [],
            }
        )
    document = {"release": RELEASE, "suites": SUITES, "platforms": PLATFORMS, "images": parts}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def check(specs: Mapping[str, ImageSpec], name: str) -> ImageLock:
    """The lock of *name*, if it belongs to the ``image.toml`` beside it.

    Raises:
        LockError: it is missing or damaged, or something else is declared by now.
    """
    lock = ImageLock.load(specs[name].lock_path)
    if lock.inputs != inputs(specs, name):
        raise LockError(
            f"{name}/image.lock: made for other packages or requirements than {name}/image.toml (or its "
            f'base) declares now; run "./inv lock --image {name}"'
        )
    return lock


def lock(
    specs: Mapping[str, ImageSpec],
    names: Iterable[str],
    cache: Cache,
    mirrors: Mirrors,
    progress: Progress,
    transport: Transport | None = None,
    index: Index | None = None,
) -> Iterator[Report]:
    """Resolve and write the lock of each of *names*; bases come first, whatever the order asked.

    Every Debian package is downloaded into *cache* on the way, because its maintainer scripts are inside.

    Raises:
        LockError: the base of an image is not locked, or something in it is too old for the image.
        AptError, ResolutionError, WheelError: what is declared cannot be resolved.
    """
    wanted = set(names)
    if unknown := sorted(wanted - set(specs)):
        raise PermanentError(f"no image {', '.join(unknown)}; known: {', '.join(specs)}")
    line = transport or transport_of_machine()
    shop = index or Index.of_machine(line)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    archive = Archive(mirrors if mirrors.timestamp else mirrors.at(now))
    try:
        for name in specs:
            if name in wanted:
                yield _lock(specs, name, cache, archive, progress, line, shop)
    finally:
        if transport is None:
            line.close()


def _lock(
    specs: Mapping[str, ImageSpec],
    name: str,
    cache: Cache,
    archive: Archive,
    progress: Progress,
    line: Transport,
    shop: Index,
) -> Report:
    spec, below = specs[name], chain(specs, name)[:-1]
    wanted = wheels.pins(spec.requirements_path) if spec.requirements_path else ()
    platforms = {}
    for platform in PLATFORMS:
        architecture = platform.partition("/")[2]
        base: list[Package] = []
        for one in below:
            lower = check(specs, one.name)
            base += lower.platforms[platform].packages
            fetch_all(base, cache, archive.mirrors.at(lower.snapshot), progress, True, line, shop)
        installed = [debian.control(cache.folder / package.sha256) for package in base]
        provided = {one for image in (*below, spec) for one in image.provided}
        packages = archive.resolve(architecture, spec.packages, sorted(provided), installed)
        fetch_all(packages, cache, archive.mirrors, progress, True, line, shop)
        platforms[platform] = PlatformLock(
            packages=tuple(
                replace(one, scripts=debian.scripts(cache.folder / one.sha256)) for one in packages
            ),
            wheels=wheels.resolve(wanted, platform, shop) if wanted else (),
        )
    epoch, snapshot = archive.moment([platform.partition("/")[2] for platform in PLATFORMS])
    new = ImageLock(epoch, snapshot, inputs(specs, name), platforms)
    old = _old(spec)
    new.save(spec.lock_path)
    return Report(
        image=name,
        changes=tuple(changes(old, new)),
        flags=tuple(flags(name, old, new)),
        counts={key: (len(one.packages), len(one.wheels)) for key, one in platforms.items()},
        octets=sum(one.octets for one in platforms.values()),
    )


def changes(old: ImageLock | None, new: ImageLock) -> Iterator[str]:
    """What differs between two locks, one line for each package or wheel and platform."""
    for platform, one in sorted(new.platforms.items()):
        before = _entries(old.platforms.get(platform) if old else None)
        after = _entries(one)
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name), after.get(name)
            if was is None and now is not None:
                yield f"{platform}: {name} {now.version}: new"
            elif was is not None and now is None:
                yield f"{platform}: {name} {was.version}: gone"
            elif was is not None and now is not None and was.sha256 != now.sha256:
                yield f"{platform}: {name} {was.version} → {now.version}"


def flags(image: str, old: ImageLock | None, new: ImageLock) -> Iterator[str]:
    """One line for each maintainer script that is new or changed since *old*; none without *old*."""
    if old is None:
        return
    # Scripts are nearly always equal on both platforms: one line, not two.
    lines: dict[str, list[str]] = {}
    for platform, one in sorted(new.platforms.items()):
        known = {package.name: package for package in old.platforms[platform].packages}
        for package in one.packages:
            was = known.get(package.name)
            before = was.scripts if was else {}
            for script in sorted(before.keys() | package.scripts.keys()):
                if before.get(script) == package.scripts.get(script):
                    continue
                what = "new" if script not in before else "changed" if script in package.scripts else "gone"
                versions = f"{was.version} → {package.version}" if was else package.version
                text = (
                    f"{package.name} {versions}: maintainer script {script} is {what}; it does not run "
                    f"here, so check whether {image}/image.toml must do something else now"
                )
                lines.setdefault(text, []).append(platform)
    for text, where in lines.items():
        yield text if len(where) == len(PLATFORMS) else f"{', '.join(where)}: {text}"


def _old(spec: ImageSpec) -> ImageLock | None:
    try:
        return ImageLock.load(spec.lock_path)
    except LockError:
        return None


def _entries(platform: PlatformLock | None) -> dict[str, Package | Wheel]:
    if platform is None:
        return {}
    items: Sequence[Package | Wheel] = (*platform.packages, *platform.wheels)
    return {f"{one.name}{' (Python)' if isinstance(one, Wheel) else ''}": one for one in items}
