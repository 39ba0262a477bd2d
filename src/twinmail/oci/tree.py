"""A tree of files on its way into a layer: what each entry is, and which of two entries wins.

Paths are relative to the root of the image, without a leading slash (``usr/bin/tini``).
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

from twinmail.errors import PermanentError

SET_ID = 0o6000

# Top-level names that are links into usr/ on a merged system (shipped as such by base-files).
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


class TreeError(PermanentError):
    """What goes into an image contradicts itself or cannot be represented."""


class Kind(Enum):
    """What an entry is; the values are the type flags of tar (POSIX.1-1988, ustar)."""

    FILE = "0"
    LINK = "2"
    DIRECTORY = "5"


@dataclass(frozen=True)
class Node:
    """One entry.

    Attributes:
        mode: permission bits, without set-user-id and set-group-id.
        content: octets of a file; empty for everything else.
        target: where a symbolic link leads, as stored; empty for everything else.
    """

    path: str
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    content: bytes = b""
    target: str = ""


def file(path: str, content: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Node:
    """A regular file."""
    return Node(clean(path), Kind.FILE, mode & ~SET_ID, uid, gid, content=content)


def link(path: str, target: str) -> Node:
    """A symbolic link; links have no mode of their own on Linux."""
    return Node(clean(path), Kind.LINK, 0o777, target=target)


def directory(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Node:
    """A folder."""
    return Node(clean(path, folder=True), Kind.DIRECTORY, mode & ~SET_ID, uid, gid)


def clean(path: str, folder: bool = False) -> str:
    """*path* relative to the root and moved to where a merged /usr has it (``lib/x`` → ``usr/lib/x``).

    Args:
        folder: a folder is meant: ``lib`` itself is moved too, where otherwise the link is meant.

    Raises:
        TreeError: it leads out of the root.
    """
    normal = posixpath.normpath(path.lstrip("/"))
    if normal == ".." or normal.startswith("../") or "\0" in normal:
        raise TreeError(f"{path!r} leads out of the image")
    if normal == ".":
        return ""
    head, slash, _ = normal.partition("/")
    return f"usr/{normal}" if (slash or folder) and head in _MERGED else normal


def parents(path: str) -> Iterator[str]:
    """The folders above *path*, nearest first, without the root."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


class Tree:
    """Entries by path; two different entries at one path are an error unless the caller replaces."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._origins: dict[str, str] = {}

    def add(self, nodes: Iterable[Node], origin: str) -> None:
        """Add entries that *origin* brings; a folder that is there already keeps its mode and owner.

        Raises:
            TreeError: two origins bring different entries for one path.
        """
        for node in nodes:
            known = self._nodes.get(node.path)
            if known is None:
                if node.path:
                    self._nodes[node.path] = node
                    self._origins[node.path] = origin
            elif known != node and (known.kind, node.kind) != (Kind.DIRECTORY, Kind.DIRECTORY):
                raise TreeError(
                    f"/{node.path}: both {self._origins[node.path]} and {origin} bring it; leave one out"
                )

    def put(self, nodes: Iterable[Node], origin: str) -> None:
        """Add entries, replacing what is there."""
        for node in nodes:
            if node.path:
                self._nodes[node.path] = node
                self._origins[node.path] = origin

    def change(self, path: str, mode: int, uid: int, gid: int) -> None:
        """Give the entry at *path*, if there is one, another mode and owner."""
        if path in self._nodes:
            self._nodes[path] = replace(self._nodes[path], mode=mode & ~SET_ID, uid=uid, gid=gid)

    def get(self, path: str) -> Node | None:
        """The entry at *path*."""
        return self._nodes.get(path)

    def nodes(self) -> list[Node]:
        """All entries, sorted by path, so that a folder comes before what is in it."""
        return [self._nodes[path] for path in sorted(self._nodes)]

    def __len__(self) -> int:
        return len(self._nodes)


def complete(nodes: Sequence[Node], lower: Mapping[str, Node], declared: bool) -> list[Node]:
    """*nodes* as a layer over *lower*: parents are added, folders that change nothing are dropped.

    A folder in an upper layer replaces mode and owner of the one below, so parents repeat what is below.

    Args:
        declared: folders among *nodes* are meant to change those below; those of packages never do.

    Raises:
        TreeError: an entry lies below something that is not a folder.
    """
    own = {
        node.path: node
        for node in nodes
        if declared or not (_is_folder(node) and _is_folder(lower.get(node.path)))
    }
    needed: dict[str, Node] = {}
    for node in own.values():
        if node.kind is Kind.DIRECTORY and lower.get(node.path) == node:
            continue
        needed[node.path] = node
        for parent in parents(node.path):
            if parent in needed:
                break
            folder = own.get(parent) or lower.get(parent) or directory(parent)
            if folder.kind is not Kind.DIRECTORY:
                raise TreeError(f"/{node.path}: /{parent} is no folder but {folder.kind.name.lower()}")
            needed[parent] = folder
    return [needed[path] for path in sorted(needed)]


def _is_folder(node: Node | None) -> bool:
    return node is not None and node.kind is Kind.DIRECTORY


def excluded(path: str, patterns: Sequence[str]) -> bool:
    """Whether *patterns* leave out *path* (without leading slash).

    A pattern is an absolute path that stands for itself and everything below it. ``*`` and ``?`` match
    within a name, ``**`` matches any number of folders. The last pattern that fits decides; one that
    starts with ``!`` takes back what an earlier one left out.
    """
    result = False
    for pattern in patterns:
        keep = pattern.startswith("!")
        if keep is result and _expression(pattern.removeprefix("!")).match(path):
            result = not keep
    return result


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern.lstrip("/").rstrip("/"))
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts) + r"(?:/|\Z)", re.DOTALL)
