"""What each layer of an image holds: packages, then Python distributions, then what is our own.

A change of code so ships the last, small layer only. The lower layers of an image are those of its base,
equal to the bit in every image that stands on it.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from twinmail import __version__
from twinmail.oci import deb, declared, distribution
from twinmail.oci.lock import Package, Wheel
from twinmail.oci.spec import ImageSpec
from twinmail.oci.tree import Kind, Node, Tree, excluded

# Where Debian keeps the standard library and our distributions; bytecode is made for what is below.
PYTHON = "usr/lib/python3"

# Unpacked first, so that its folders' modes and owners count (dpkg does the same).
_FIRST = "base-files"

# The packages that are unpacked at a time, on other processors: xz works without Python's lock.
_AT_ONCE = 4

Make = Callable[[], list[Node]]


class Compile(Protocol):
    """Starts to compile sources by path; see `twinmail.oci.bytecode.Compiler.submit`."""

    def __call__(self, sources: Mapping[str, bytes]) -> Make: ...


def packages(
    images: Sequence[ImageSpec], found: Sequence[tuple[Package, Path]], compile_: Compile | None
) -> list[Node]:
    """The entries of the Debian packages *found* for the last of *images* (its chain, lowest first)."""
    tree, jobs = Tree(), []
    patterns = exclusions(images)
    ordered = sorted(found, key=lambda one: (one[0].name != _FIRST, one[0].name))
    with ThreadPoolExecutor(_AT_ONCE, "unpack") as pool:
        debs = pool.map(deb.unpack, [path for _, path in ordered])
        for (package, _), unpacked in zip(ordered, debs, strict=True):
            nodes = [
                node for node in unpacked.nodes if deb.keeps(node.path) and not excluded(node.path, patterns)
            ]
            tree.add(nodes, package.name)
            tree.add(unpacked.status, package.name)
            jobs.append((package.name, _compiled(nodes, compile_)))
    tree.add(declared.bundle(tree.nodes()), "the bundle of certificates")
    _finish(tree, jobs, images[-1])
    return tree.nodes()


def distributions(
    images: Sequence[ImageSpec], found: Sequence[tuple[Wheel, Path]], compile_: Compile | None
) -> list[Node]:
    """The entries of the Python distributions *found* for the last of *images*."""
    tree, jobs = Tree(), []
    patterns = exclusions(images)
    for wheel, path in sorted(found, key=lambda one: one[0].name):
        nodes = [node for node in distribution.unpack(wheel, path) if not excluded(node.path, patterns)]
        tree.add(nodes, wheel.filename)
        jobs.append((wheel.filename, _compiled(nodes, compile_)))
    _finish(tree, jobs, images[-1])
    return tree.nodes()


def own(images: Sequence[ImageSpec], root: Path) -> list[Node]:
    """What the last of *images* declares itself, from the checkout at *root*, without bytecode."""
    spec = images[-1]
    tree = Tree()
    sources = [node for node in declared.sources(spec, root) if not excluded(node.path, exclusions(images))]
    tree.add(sources, "python.sources")
    if spec.python.distribution:
        points = distribution.metadata(spec.python.distribution, __version__, spec.python.entry_points)
        tree.add(points, "python.distribution")
    if spec.users or spec.groups:
        tree.put(declared.accounts(images), "users")
    if spec.rootfs.is_dir():
        tree.put(declared.folder(spec.rootfs, ""), "rootfs")
    tree.put(declared.places(spec), "image.toml")
    return tree.nodes()


def with_bytecode(nodes: Sequence[Node], compile_: Compile | None, spec: ImageSpec) -> list[Node]:
    """What `own` returned for *spec*, complete."""
    tree = Tree()
    tree.put(nodes, "")
    _finish(tree, [("python.sources", _compiled(nodes, compile_))], spec)
    return tree.nodes()


def fingerprint(nodes: Sequence[Node]) -> str:
    """Hex digest of everything about *nodes*."""
    digest = hashlib.sha256()
    for node in nodes:
        content = hashlib.sha256(node.content).hexdigest()
        digest.update(
            repr((node.path, node.kind.value, node.mode, node.uid, node.gid, node.target, content)).encode()
        )
    return digest.hexdigest()


def exclusions(images: Sequence[ImageSpec]) -> tuple[str, ...]:
    """What *images* leave out; what a base leaves out stays out of everything that stands on it."""
    return tuple(pattern for image in images for pattern in image.exclude)


def unplaced(spec: ImageSpec, paths: Iterable[str]) -> list[str]:
    """The files of which *spec* only changes the mode and that are not among *paths*."""
    known = set(paths)
    return [one.path for one in spec.files if one.content is None and one.path.lstrip("/") not in known]


def _compiled(nodes: Sequence[Node], compile_: Compile | None) -> Make:
    sources = {
        node.path: node.content
        for node in nodes
        if node.kind is Kind.FILE and node.path.endswith(".py") and node.path.startswith(PYTHON)
    }
    if compile_ is None or not sources:
        return list
    return compile_(sources)


def _finish(tree: Tree, jobs: Sequence[tuple[str, Make]], spec: ImageSpec) -> None:
    for origin, job in jobs:
        tree.put(job(), f"bytecode of {origin}")
    for one in spec.files:
        if one.content is None:
            tree.change(one.path.lstrip("/"), one.mode, one.uid, one.gid)
