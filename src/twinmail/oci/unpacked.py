"""Debian packages unpacked below a folder of this machine, to run programs of theirs from there."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twinmail.oci import deb
from twinmail.oci.tree import Kind, Node, parents


def unpacked(packages: Sequence[Path], folder: Path) -> Path:
    """The folder below *folder* that holds what is below ``/usr`` in *packages* (``.deb`` files).

    It is named after the digest of the files' names, made once, and complete when it is there.

    Raises:
        DebError: a package is damaged.
    """
    names = sorted(path.name for path in packages)
    place = folder / hashlib.sha256("\n".join(names).encode()).hexdigest()
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as name:
        partial = Path(name) / "root"
        for path in packages:
            extract(deb.unpack(path).nodes, partial)
        try:
            partial.rename(place)
        except OSError:  # another process was faster
            if not place.is_dir():
                raise
    return place


def extract(nodes: Sequence[Node], root: Path) -> None:
    """Write what is below ``/usr`` in *nodes* into the folder *root*."""
    for node in nodes:
        if not node.path.startswith("usr/"):
            continue
        path = root / node.path
        for parent in [*parents(node.path)][::-1]:
            (root / parent).mkdir(parents=True, exist_ok=True)
        if node.kind is Kind.FILE:
            path.write_bytes(node.content)
            path.chmod(0o755 if node.mode & 0o100 else 0o644)
        elif node.kind is Kind.LINK:
            path.unlink(missing_ok=True)
            path.symlink_to(_inside(node))


def _inside(node: Node) -> str:
    """The link's target as a relative one: the root of the package is a folder here."""
    if not node.target.startswith("/"):
        return node.target
    return os.path.relpath(node.target.lstrip("/"), node.path.rpartition("/")[0])
