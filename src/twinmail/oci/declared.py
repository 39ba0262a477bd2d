"""What an image declares itself: users, links, files, folders, our sources and ``rootfs/``.

Of files in the checkout only the content and whether they are executable count, as in git: neither the
umask nor the time of the checkout may change an image.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from twinmail.oci.distribution import PLACE
from twinmail.oci.spec import Group, ImageSpec, User
from twinmail.oci.tree import Node, TreeError, directory, file, link

CERTIFICATES = "usr/share/ca-certificates/"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"

# Left by interpreters and editors; never part of an image.
_STRAY = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".DS_Store")


def accounts(images: Sequence[ImageSpec]) -> list[Node]:
    """``/etc/passwd`` and ``/etc/group`` with what all of *images*, lowest first, declare."""
    users: dict[str, User] = {user.name: user for image in images for user in image.users}
    groups: dict[str, Group] = {group.name: group for image in images for group in image.groups}
    gids = {group.gid for group in groups.values()}
    for user in users.values():
        if user.gid not in gids:
            groups.setdefault(user.name, Group(user.name, user.gid))
            gids.add(user.gid)
    passwd = "".join(
        f"{one.name}:x:{one.uid}:{one.gid}:{one.comment}:{one.home}:{one.shell}\n"
        for one in sorted(users.values(), key=lambda one: (one.uid, one.name))
    )
    group = "".join(
        f"{one.name}:x:{one.gid}:{','.join(one.members)}\n"
        for one in sorted(groups.values(), key=lambda one: (one.gid, one.name))
    )
    return [file("etc/passwd", passwd.encode()), file("etc/group", group.encode())]


def places(spec: ImageSpec) -> list[Node]:
    """The links, files with content and folders that *spec* lists."""
    nodes = [directory(one.path, one.mode, one.uid, one.gid) for one in spec.directories]
    nodes += [link(one.path, one.target) for one in spec.links]
    nodes += [
        file(one.path, one.content.encode(), one.mode, one.uid, one.gid)
        for one in spec.files
        if one.content is not None
    ]
    return nodes


def folder(top: Path, place: str) -> Iterator[Node]:
    """The files below *top* of the checkout, at *place* in the image; empty folders do not count, as in git.

    Raises:
        TreeError: something there is neither file, folder nor link.
    """
    for entry in sorted(os.scandir(top), key=lambda one: one.name):
        path = f"{place}/{entry.name}" if place else entry.name
        if entry.name in _STRAY or entry.name.endswith((".pyc", "~", ".swp")):
            continue
        if entry.is_symlink():
            yield link(path, str(Path(entry.path).readlink()))
        elif entry.is_dir():
            yield from folder(Path(entry.path), path)
        elif entry.is_file():
            executable = entry.stat().st_mode & 0o100
            yield file(path, Path(entry.path).read_bytes(), 0o755 if executable else 0o644)
        else:
            raise TreeError(f"{entry.path}: expected a file, a folder or a link; images hold nothing else")


def sources(spec: ImageSpec, root: Path) -> list[Node]:
    """Our own packages, from the checkout at *root*.

    Raises:
        TreeError: a folder that the image names is not there.
    """
    nodes: list[Node] = []
    for source in spec.python.sources:
        top = root / source
        if not top.is_dir():
            raise TreeError(
                f"{spec.folder.name}/image.toml: python.sources: {source!r} is no folder of the checkout"
            )
        nodes += folder(top, f"{PLACE}/{top.name}")
    return nodes


def bundle(nodes: Sequence[Node]) -> list[Node]:
    """The one file of certificate authorities that OpenSSL reads, from those that *nodes* hold one by one."""
    found = [one for one in nodes if one.path.startswith(CERTIFICATES) and one.path.endswith(".crt")]
    if not found:
        return []
    parts = [one.content.rstrip(b"\n") + b"\n" for one in sorted(found, key=lambda one: one.path)]
    return [file(BUNDLE, b"".join(parts))]
