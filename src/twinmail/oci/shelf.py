"""Layers that were written before, by what went into them, so that an unchanged layer costs nothing."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import deflate

from twinmail.oci import layer
from twinmail.oci.elf import Elf
from twinmail.oci.layer import Layer
from twinmail.oci.tree import Kind, Node, complete

PLACE = Path("cache") / "layers"

# The modules that decide about the octets of a layer.
_CODE = ("assembly", "bytecode", "deb", "declared", "distribution", "elf", "layer", "shelf", "tree")

# What no build has used for so long is removed.
_KEEP_SECONDS = 4 * 86400


@dataclass(frozen=True)
class Shelf:
    """A folder of layer blobs by hex digest, and of their descriptions (``<key>.json``) by input."""

    folder: Path

    def layer(
        self,
        inputs: object,
        lower: Sequence[Layer],
        epoch: int,
        origin: str,
        make: Callable[[], list[Node]],
        declared: bool = False,
    ) -> Layer | None:
        """The layer that *make* returns the entries of, over *lower*; None if it has none.

        Args:
            inputs: everything that decides about the result, as JSON can hold it.
            make: called only if no layer with these inputs was written before.
            declared: see `complete`.
        """
        below = merged(lower)
        # All that matters of the layers below is what a path can lead through.
        ways = [
            [path, one.kind.value, one.mode, one.uid, one.gid]
            for path, one in below.items()
            if one.kind is not Kind.FILE
        ]
        facts = [code(), deflate.__version__, epoch, origin, inputs, declared, sorted(ways)]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        place = self.folder / f"{key}.json"
        known = _load(place, self.folder)
        if known is None:
            nodes = complete(make(), below, declared)
            written = layer.write(nodes, epoch, self.folder, origin)
            _save(written, place)
            known = written
        return known if known.nodes else None


def clear_unused(folder: Path) -> None:
    """Remove from *folder* what no build has used for some days; what is used is touched."""
    oldest = time.time() - _KEEP_SECONDS
    for path in folder.glob("*"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def merged(layers: Iterable[Layer]) -> dict[str, Node]:
    """The entries of *layers*, lowest first, as one sees them together."""
    nodes: dict[str, Node] = {}
    for one in layers:
        nodes.update(one.nodes)
    return nodes


@lru_cache(maxsize=1)
def code() -> str:
    """Digest of the builder's own sources: another builder may write other layers."""
    digest = hashlib.sha256()
    for name in _CODE:
        digest.update(name.encode() + b"\0" + Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def _save(one: Layer, place: Path) -> None:
    document = {
        "digest": one.digest,
        "size": one.size,
        "diff_id": one.diff_id,
        "diff_size": one.diff_size,
        "origin": one.origin,
        "nodes": [
            [node.path, node.kind.value, node.mode, node.uid, node.gid, node.target]
            for node in one.nodes.values()
        ],
        "elves": {
            path: [elf.machine, elf.needed, elf.search, elf.interpreter] for path, elf in one.elves.items()
        },
    }
    handle, name = tempfile.mkstemp(prefix=".description-", dir=place.parent)
    with os.fdopen(handle, "w") as stream:
        json.dump(document, stream)
    Path(name).replace(place)


def _load(place: Path, folder: Path) -> Layer | None:
    try:
        document: Mapping[str, Any] = json.loads(place.read_text())
        blob = folder / document["digest"].removeprefix("sha256:")
        if blob.stat().st_size != document["size"]:
            return None
    except (FileNotFoundError, ValueError, KeyError):
        return None
    for used in (place, blob):
        os.utime(used)
    nodes = (
        Node(path, Kind(kind), mode, uid, gid, b"", target)
        for path, kind, mode, uid, gid, target in document["nodes"]
    )
    elves = {
        path: Elf(machine, tuple(needed), tuple(search), interpreter)
        for path, (machine, needed, search, interpreter) in document["elves"].items()
    }
    return Layer(
        document["digest"],
        document["size"],
        document["diff_id"],
        document["diff_size"],
        {node.path: node for node in nodes},
        elves,
        document["origin"],
    )
