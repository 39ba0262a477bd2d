"""In what two builds of an image differ: which field of which document, which entry of which layer."""

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from twinmail.oci import layout

# Lines about one layer; whoever needs more has the layouts.
_LINES = 20


@dataclass(frozen=True)
class _Entry:
    """One entry of a layer, with a digest for its content."""

    name: str
    facts: dict[str, Any]


def layouts(one: Path, other: Path) -> list[str]:
    """How the layouts at *one* and *other* differ, a line each; empty if they are equal to the bit.

    Both must be complete: the documents and layers named by their indexes are read.
    """
    first, second = layout.manifests(one), layout.manifests(other)
    seen: set[tuple[str, str]] = set()
    lines = list(_fields("index.json", _flat(first), _flat(second), names_only=True))
    for reference in sorted(set(first) & set(second)):
        for platform in sorted(set(first[reference]) & set(second[reference])):
            digests = (first[reference][platform], second[reference][platform])
            if digests[0] != digests[1]:
                lines += images(f"{reference} for {platform}", (one, digests[0]), (other, digests[1]), seen)
    if not lines and (one / "index.json").read_bytes() != (other / "index.json").read_bytes():
        lines += documents(
            "index.json", (one / "index.json").read_bytes(), (other / "index.json").read_bytes()
        )
    return lines


def images(
    what: str, one: tuple[Path, str], other: tuple[Path, str], seen: set[tuple[str, str]] | None = None
) -> list[str]:
    """How two images differ, each given by its layout and the digest of its manifest.

    Args:
        seen: pairs of layers that were compared already, of which nothing is repeated; new ones are added.
    """
    known = set() if seen is None else seen
    raw = [layout.read(folder, digest) for folder, digest in (one, other)]
    lines = documents(f"{what}: manifest", raw[0], raw[1])
    manifests = [json.loads(octets) for octets in raw]
    configs = [
        layout.read(folder, manifest["config"]["digest"])
        for (folder, _), manifest in zip((one, other), manifests, strict=True)
    ]
    lines += documents(f"{what}: config", configs[0], configs[1])
    pairs = zip(manifests[0]["layers"], manifests[1]["layers"], strict=False)
    for number, (mine, theirs) in enumerate(pairs):
        pair = (mine["digest"], theirs["digest"])
        if pair[0] != pair[1] and pair not in known:
            known.add(pair)
            blobs = [_blob(one[0], mine["digest"]), _blob(other[0], theirs["digest"])]
            lines += layers(f"{what}: layer {number}", blobs[0], blobs[1])
    return lines


def documents(what: str, one: bytes, other: bytes) -> list[str]:
    """How two JSON documents differ, field by field."""
    if one == other:
        return []
    lines = list(_fields(what, _flat(json.loads(one)), _flat(json.loads(other))))
    return lines or [f"{what}: equal fields, but written differently"]


def layers(what: str, one: Path, other: Path) -> list[str]:
    """How two gzip-compressed layers differ, entry by entry."""
    found = list(islice(_layers(what, one, other), _LINES + 1))
    return [*found[:_LINES], f"{what}: and more"] if len(found) > _LINES else found


def _layers(what: str, one: Path, other: Path) -> Iterator[str]:
    if _diff_id(one) == _diff_id(other):
        sizes = f"{one.stat().st_size} and {other.stat().st_size} octets"
        yield f"{what}: equal tar archives, but compressed differently: {sizes}"
        return
    first, second = list(_entries(one)), list(_entries(other))
    mine, theirs = ({entry.name: entry for entry in entries} for entries in (first, second))
    for name in mine:
        if name not in theirs:
            yield f"{what}: /{name}: only in the first"
    for name in theirs:
        if name not in mine:
            yield f"{what}: /{name}: only in the second"
    for name, entry in mine.items():
        if name in theirs:
            yield from _fields(f"{what}: /{name}", entry.facts, theirs[name].facts)
    if mine == theirs:
        order = next((pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]), None)
        if order:
            yield f"{what}: order of entries: /{order[0].name} where the second has /{order[1].name}"
        else:
            yield f"{what}: equal entries, but equal to the bit they are not (padding or header form)"


def _entries(path: Path) -> Iterator[_Entry]:
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            facts: dict[str, Any] = {
                "type": member.type.decode(),
                "mode": f"{member.mode:04o}",
                "uid": member.uid,
                "gid": member.gid,
                "mtime": member.mtime,
                "owner": f"{member.uname}:{member.gname}",
                "target": member.linkname,
                "size": member.size,
            }
            stream = archive.extractfile(member) if member.isfile() else None
            if stream:
                facts["content"] = f"sha256:{hashlib.sha256(stream.read()).hexdigest()}"
            yield _Entry(member.name, facts)


def _fields(what: str, one: dict[str, Any], other: dict[str, Any], names_only: bool = False) -> Iterator[str]:
    for key in sorted(set(one) | set(other)):
        if key not in one or key not in other:
            side = "second" if key in other else "first"
            yield f"{what}: {key}: only in the {side}: {(one if key in one else other)[key]}"
        elif one[key] != other[key] and not names_only:
            yield f"{what}: {key}: {one[key]} and {other[key]}"


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by path: ``config.Env[0]``."""
    if isinstance(value, dict):
        inner = {f"{path}.{key}" if path else key: one for key, one in value.items()}
    elif isinstance(value, list):
        inner = {f"{path}[{number}]": one for number, one in enumerate(value)}
    else:
        return {path: value}
    return {key: leaf for name, one in inner.items() for key, leaf in _flat(one, name).items()}


def _diff_id(path: Path) -> str:
    digest = hashlib.sha256()
    with gzip.open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
