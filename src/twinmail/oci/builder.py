"""Building images: locked files in, OCI layouts out, without running anything of the target platform."""

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from twinmail.errors import PermanentError
from twinmail.oci import assembly, deb, layout, lint, sbom
from twinmail.oci.bytecode import Compiler, Interpreter, host_platform, interpreter_packages
from twinmail.oci.cache import PLACE as CACHE
from twinmail.oci.cache import Cache
from twinmail.oci.fetch import Progress as FetchProgress
from twinmail.oci.fetch import fetch_all
from twinmail.oci.layer import Layer
from twinmail.oci.layout import DEBUG, LATEST, Image
from twinmail.oci.lock import ImageLock, Package, Wheel
from twinmail.oci.locking import check as checked_lock
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.report import BuildReport, Built
from twinmail.oci.shelf import PLACE as LAYERS
from twinmail.oci.shelf import Shelf, clear_unused, merged
from twinmail.oci.spec import DEBUG as DEBUG_IMAGE
from twinmail.oci.spec import PLATFORMS, ImageSpec, chain
from twinmail.oci.tree import Node

IMAGES = "images"
"""Folder of the layouts below the state folder."""

_INTERPRETERS = Path("cache") / "interpreters"
_BYTECODE = Path("cache") / "bytecode"


class Progress(FetchProgress, Protocol):
    """What a build reports; called from several threads."""

    def step(self, image: str, platform: str, text: str) -> None:
        """What is being done for *image* now."""


@dataclass(frozen=True)
class Place:
    """Where a build reads and writes.

    Attributes:
        root: the checkout.
        output: folder for the layouts, one folder an image.
        work: folder for layers and bytecode that later builds use again.
        cache: the downloads.
    """

    root: Path
    output: Path
    work: Path
    cache: Cache

    @classmethod
    def of(cls, root: Path) -> "Place":
        """The places of the checkout at *root*."""
        state = root / ".twinmail"
        return cls(root, state / IMAGES, state, Cache(state / CACHE))


@dataclass
class _Platform:
    """The images of one platform on their way; used by one thread."""

    name: str
    own: dict[str, tuple[Layer, ...]] = field(default_factory=dict)


class Builder:
    """Builds any of *specs* (see `twinmail.oci.spec.load_all`)."""

    def __init__(
        self,
        specs: Mapping[str, ImageSpec],
        place: Place,
        mirrors: Mirrors,
        progress: Progress,
        locked: bool,
    ) -> None:
        self._specs = specs
        self._place = place
        self._mirrors = mirrors
        self._progress = progress
        self._locked = locked
        self._shelf = Shelf(place.work / LAYERS)
        self._pool = ThreadPoolExecutor(2, "compile")
        self._guard = threading.Lock()
        self._compilers: dict[str, Compiler] = {}
        self._files: dict[str, Path] = {}
        self._locks: dict[str, ImageLock] = {}

    def build(self, wanted: Sequence[str], platforms: Sequence[str]) -> BuildReport:
        """Build the images *wanted*, which include what they stand on, lowest first; see `build`."""
        self.fetch(wanted, platforms)
        with self._pool, ThreadPoolExecutor(len(platforms), "platform") as pool:
            jobs = [pool.submit(self._platform, platform, wanted) for platform in platforms]
            try:
                images = [job.result() for job in jobs]
            except BaseException:
                # Ctrl-C, or a platform that failed: what waits to be compiled is never started.
                self._pool.shutdown(wait=False, cancel_futures=True)
                raise
        layouts, reports = {}, {}
        for name in wanted:
            pairs = [one[name] for one in images]
            folder = self._place.output / name
            layout.write(
                folder,
                {LATEST: [one for one, _ in pairs], DEBUG: [one for _, one in pairs]},
                self._shelf.folder,
            )
            for image, _ in pairs:
                self._bill(name, image)
            layouts[name] = folder
            reports[name] = {image.platform: _built(image, debug) for image, debug in pairs}
        for kept in (LAYERS, _BYTECODE):
            clear_unused(self._place.work / kept)
        return BuildReport(layouts, reports, self._degraded())

    def fetch(self, wanted: Sequence[str], platforms: Sequence[str]) -> None:
        """Have every file of the locks at hand, also what the interpreter of this machine consists of."""
        names = [*wanted, DEBUG_IMAGE] if DEBUG_IMAGE in self._specs else wanted
        self._locks = {name: checked_lock(self._specs, name) for name in names}
        by_snapshot: dict[str, list[Package | Wheel]] = {}
        for name, lock in self._locks.items():
            items = by_snapshot.setdefault(lock.snapshot, [])
            for platform in platforms:
                items += [*lock.platforms[platform].packages, *lock.platforms[platform].wheels]
            items += self._interpreter(name)
        for snapshot, items in by_snapshot.items():
            mirrors = self._mirrors.at(snapshot)
            self._files |= fetch_all(items, self._place.cache, mirrors, self._progress, self._locked)

    def _interpreter(self, name: str) -> list[Package]:
        """The packages of the interpreter that compiles for the image *name*, for this machine."""
        images = chain(self._specs, name)
        if not any(
            interpreter_packages(_names(self._locks[one.name])) for one in images if one.name in self._locks
        ):
            return []
        locks = [self._locks[one.name].platforms[host_platform()] for one in images]
        packages = {one.name: one for lock in locks for one in lock.packages}
        return [packages[one] for one in interpreter_packages(list(packages)) if one in packages]

    def _compiler(self, name: str) -> Compiler | None:
        packages = {one.name: self._files[one.sha256] for one in self._interpreter(name)}
        if not packages:
            return None
        key = json.dumps({one: path.name for one, path in packages.items()}, sort_keys=True)
        with self._guard:
            if key not in self._compilers:
                interpreter = Interpreter.prepare(packages, self._place.work / _INTERPRETERS)
                self._compilers[key] = Compiler(interpreter, self._place.work / _BYTECODE, self._pool)
            return self._compilers[key]

    def _platform(self, platform: str, wanted: Sequence[str]) -> dict[str, tuple[Image, Image]]:
        """Every image of *wanted*, and its variant with a shell."""
        state = _Platform(platform)
        results = {}
        for name in wanted:
            images = chain(self._specs, name)
            lower = [one for image in images[:-1] for one in state.own[image.name]]
            state.own[name] = self._layers(images, state, lower)
            layers = [*lower, *state.own[name]]
            epoch = self._locks[name].epoch
            self._lint(name, platform, layers)
            image = layout.image(images, platform, epoch, layers)
            debug = image
            if DEBUG_IMAGE in self._specs:
                above = self._layers((self._specs[DEBUG_IMAGE],), state, layers)
                self._lint(f"{name}:{DEBUG}", platform, [*layers, *above])
                debug = layout.image(images, platform, epoch, [*layers, *above])
            results[name] = (image, debug)
        return results

    def _layers(
        self, images: Sequence[ImageSpec], state: _Platform, lower: Sequence[Layer]
    ) -> tuple[Layer, ...]:
        """The layers that the last of *images* adds over *lower*."""
        spec = images[-1]
        lock = self._locks[spec.name]
        locked = lock.platforms[state.name]
        packages = [(one, self._files[one.sha256]) for one in locked.packages]
        wheels = [(one, self._files[one.sha256]) for one in locked.wheels]
        compiler = self._compiler(spec.name)
        compile_ = compiler.submit if compiler else None
        facts = [
            assembly.exclusions(images),
            [[one.path, one.mode, one.uid, one.gid] for one in spec.files if one.content is None],
            compiler.identity if compiler else "",
        ]
        layers: list[Layer] = []

        def add(origin: str, inputs: object, make: assembly.Make, declared: bool = False) -> None:
            def announced() -> list[Node]:
                self._progress.step(spec.name, state.name, origin)
                return make()

            made = self._shelf.layer(
                [facts, inputs],
                [*lower, *layers],
                lock.epoch,
                f"{spec.name}: {origin}",
                announced,
                declared,
            )
            if made is not None:
                layers.append(made)

        if packages:
            inputs = [[one.name, path.name] for one, path in packages]
            add("Debian packages", inputs, lambda: assembly.packages(images, packages, compile_))
        if wheels:
            inputs = [[one.filename, path.name] for one, path in wheels]
            add("Python distributions", inputs, lambda: assembly.distributions(images, wheels, compile_))
        own = assembly.own(images, self._place.root)
        mark = assembly.fingerprint(own)
        add("files of its own", mark, lambda: assembly.with_bytecode(own, compile_, spec), declared=True)
        missing = assembly.unplaced(spec, merged(layers))
        if missing:
            raise PermanentError(
                f"{spec.folder.name}/image.toml: files: {', '.join(missing)}: no package and no file in "
                "rootfs/ of this image has that path; give it a content or remove it"
            )
        return tuple(layers)

    def _lint(self, name: str, platform: str, layers: Sequence[Layer]) -> None:
        nodes = merged(layers)
        elves = {path: elf for one in layers for path, elf in one.elves.items() if path in nodes}
        if problems := lint.check(platform, nodes, elves):
            raise lint.LintError(name, platform, problems)

    def _bill(self, name: str, image: Image) -> None:
        """Write the bill of materials of *image* beside its layout."""
        components = []
        for spec in chain(self._specs, name):
            locked = self._locks[spec.name].platforms[image.platform]
            for package in locked.packages:
                path = self._files[package.sha256]
                version = package.version if path.name == package.sha256 else deb.version(path)
                filename = package.path.rpartition("/")[2]
                components.append(sbom.Component("deb", package.name, version, path.name, filename))
            for wheel in locked.wheels:
                components.append(
                    sbom.Component("pypi", wheel.name, wheel.version, wheel.sha256, wheel.filename)
                )
        epoch = self._locks[name].epoch
        document = sbom.document(name, image.platform, image.manifest.digest, epoch, components)
        path = self._place.output / f"{name}.{image.platform.replace('/', '-')}.spdx.json"
        partial = path.with_name(f".{path.name}.new")
        partial.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        partial.replace(path)

    def _degraded(self) -> tuple[str, ...]:
        packages = {
            one.sha256: one
            for lock in self._locks.values()
            for each in lock.platforms.values()
            for one in each.packages
        }
        return tuple(
            f"{packages[sha256].name} {packages[sha256].version} has vanished; {deb.version(path)} stands in"
            for sha256, path in sorted(self._files.items())
            if path.name != sha256
        )


def _names(lock: ImageLock) -> list[str]:
    return [one.name for one in lock.platforms[PLATFORMS[0]].packages]


def _built(image: Image, debug: Image) -> Built:
    return Built(
        manifest=image.manifest.digest,
        debug=debug.manifest.digest,
        config=image.config.digest,
        layers=tuple(one.digest for one in image.layers),
        diff_ids=tuple(one.diff_id for one in image.layers),
        sizes=tuple(one.size for one in image.layers),
    )
