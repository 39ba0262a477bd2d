"""Writing a layer: entries to tar to gzip, where the same entries give the same octets on every machine.

The tar headers are written here and not by the standard library, whose headers have changed between Python
versions. The compressor is libdeflate from the hash lock: zlib's output differs between zlib, zlib-ng and
processors (docs/adr/020 has the measurements).
"""

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import deflate

from twinmail.oci import elf
from twinmail.oci.elf import Elf
from twinmail.oci.tree import Kind, Node, TreeError

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

# One gzip member for so many octets of tar: bounds memory, and costs 0.1 % of the size.
MEMBER = 4 << 20
LEVEL = 6

# The members that are compressed at a time, on other processors: libdeflate works without Python's lock.
_AT_ONCE = 4

_BLOCK = 512
# tar pads archives to records of 20 blocks (POSIX.1-1988).
_RECORD = 20 * _BLOCK
_LARGEST = 8**11 - 1


@dataclass(frozen=True)
class Layer:
    """A written layer.

    Attributes:
        digest: ``sha256:…`` of the compressed blob.
        size: octets of the blob.
        diff_id: ``sha256:…`` of the tar.
        diff_size: octets of the tar.
        nodes: its entries without content, by path.
        elves: what the dynamic linker needs of each ELF file, by path.
        origin: what made it, for the image's history.
    """

    digest: str
    size: int
    diff_id: str
    diff_size: int
    nodes: Mapping[str, Node]
    elves: Mapping[str, Elf] = field(default_factory=dict)
    origin: str = ""


def write(nodes: Sequence[Node], epoch: int, folder: Path, origin: str = "") -> Layer:
    """Write the sorted *nodes* as a layer blob ``<folder>/<hex digest>``, every mtime being *epoch*.

    Raises:
        TreeError: an entry cannot be represented.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".layer-", dir=folder)
    partial = Path(name)
    blob, tar, size, diff_size = hashlib.sha256(), hashlib.sha256(), 0, 0
    try:
        with os.fdopen(handle, "wb") as stream, ThreadPoolExecutor(_AT_ONCE, "gzip") as pool:
            for piece, member in _members(_pieces(archive(nodes, epoch)), pool):
                tar.update(piece)
                diff_size += len(piece)
                blob.update(member)
                size += stream.write(member)
        partial.chmod(0o644)
        partial.replace(folder / blob.hexdigest())
    finally:
        partial.unlink(missing_ok=True)
    elves = ((node.path, elf.parse(node.content)) for node in nodes)
    return Layer(
        digest=f"sha256:{blob.hexdigest()}",
        size=size,
        diff_id=f"sha256:{tar.hexdigest()}",
        diff_size=diff_size,
        nodes={
            node.path: Node(node.path, node.kind, node.mode, node.uid, node.gid, b"", node.target)
            for node in nodes
        },
        elves={path: found for path, found in elves if found is not None},
        origin=origin,
    )


def archive(nodes: Sequence[Node], epoch: int) -> Iterator[bytes]:
    """The tar archive of *nodes*, in their order, in parts of any size."""
    total = 0
    for node in nodes:
        header = b"".join(_headers(node, epoch))
        padding = -len(node.content) % _BLOCK
        total += len(header) + len(node.content) + padding
        yield header
        if node.content:
            yield node.content
            yield bytes(padding)
    end = 2 * _BLOCK
    yield bytes(end + -(total + end) % _RECORD)


def _headers(node: Node, epoch: int) -> Iterator[bytes]:
    path = f"{node.path}/" if node.kind is Kind.DIRECTORY else node.path
    records = {}
    prefix, name = _split(path.encode())
    if name is None:
        records["path"] = path
        prefix, name = b"", path.encode()[:100]
    target = node.target.encode()
    if len(target) > 100 or not target.isascii():
        records["linkpath"] = node.target
        target = target[:100]
    if len(node.content) > _LARGEST:
        raise TreeError(f"/{node.path}: {len(node.content)} octets; a layer holds files below 8 GiB")
    if records:
        body = b"".join(_record(key, value) for key, value in sorted(records.items()))
        yield _header(b"PaxHeaders/" + name[-80:].strip(b"/"), b"", b"x", 0o644, 0, 0, len(body), epoch, b"")
        yield body + bytes(-len(body) % _BLOCK)
    kind = node.kind.value.encode()
    yield _header(name, prefix, kind, node.mode, node.uid, node.gid, len(node.content), epoch, target)


def _header(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    epoch: int,
    target: bytes,
) -> bytes:
    head = b"%-100s%07o\0%07o\0%07o\0%011o\0%011o\0" % (b"", mode, uid, gid, size, epoch)
    head = name.ljust(100, b"\0") + head[100:]
    tail = kind + target.ljust(100, b"\0") + b"ustar\x0000" + bytes(64) + b"0000000\x000000000\0"
    tail += prefix.ljust(155, b"\0") + bytes(12)
    checksum = sum(head) + sum(tail) + 8 * ord(" ")
    return head + b"%06o\0 " % checksum + tail


def _split(path: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name for a ustar header; no name if they do not fit."""
    if not path.isascii():
        return b"", None
    if len(path) <= 100:
        return b"", path
    at = path.rfind(b"/", 0, 156)
    while at > 0:
        if 0 < len(path) - at - 1 <= 100:
            return path[:at], path[at + 1 :]
        if len(path) - at - 1 > 100:
            break
        at = path.rfind(b"/", 0, at)
    return b"", None


def _record(key: str, value: str) -> bytes:
    """``<length> <key>=<value>\\n``, where the length counts its own digits (POSIX.1-2001 pax)."""
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same octets in pieces of `MEMBER` octets, the last one shorter."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        view = memoryview(part)
        while size + len(view) >= MEMBER:
            room = MEMBER - size
            yield b"".join([*held, view[:room]])
            held, size, view = [], 0, view[room:]
        if view:
            held.append(bytes(view) if len(view) < len(part) else part)
            size += len(view)
    if size:
        yield b"".join(held)


def _members(pieces: Iterator[bytes], pool: ThreadPoolExecutor) -> Iterator[tuple[bytes, bytearray]]:
    """Each of *pieces* and the gzip member of it, in their order."""
    waiting: deque[tuple[bytes, Future[bytearray]]] = deque()
    for piece in pieces:
        waiting.append((piece, pool.submit(deflate.gzip_compress, piece, LEVEL)))
        if len(waiting) > _AT_ONCE:
            first, job = waiting.popleft()
            yield first, job.result()
    for first, job in waiting:
        yield first, job.result()
