"""Layers unpacked into folders, one folder a diff ID, shared by all images and kept between runs.

A folder is complete once it carries its final name. Whoever runs a container on it holds a shared lock,
so that cleaning up never takes a folder from under a running container, whichever process runs it.
"""

import fcntl
import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from twinmail.runtime.image import Layer
from twinmail.runtime.interface import ImageError

KEEP_SECONDS = 14 * 86400
WHITEOUT = ".wh."


class LayerStore:
    """The folder *root* with one unpacked layer in each ``<hex of the diff ID>``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def use(self, layers: Sequence[Layer]) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
        """Unpack what is missing; yield the folder names and the descriptors whose locks protect them.

        A lock lasts as long as any process holds its descriptor open.

        Raises:
            ImageError: a layer is damaged, or holds what no image of ours may hold.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o711)
        locks: list[int] = []
        try:
            for layer in layers:
                locks.append(self._lock(layer))
            yield tuple(_hex(layer) for layer in layers), tuple(locks)
        finally:
            for descriptor in locks:
                os.close(descriptor)

    def _lock(self, layer: Layer) -> int:
        """Return a descriptor with a shared lock on the complete folder of *layer*."""
        folder = self.root / _hex(layer)
        while True:
            descriptor = os.open(self._lock_file(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if folder.is_dir() and self._is_current(descriptor, folder):
                    os.utime(descriptor)  # the time of the last use, for `prune`
                    return descriptor
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not folder.is_dir() and self._is_current(descriptor, folder):
                    self._unpack(layer, folder)
                # Between the two kinds of lock another process may prune: look again.
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _unpack(self, layer: Layer, folder: Path) -> None:
        partial = folder.with_suffix(".partial")
        _remove(partial)
        partial.mkdir(mode=0o755)
        try:
            unpack(layer, partial)
        except BaseException:
            _remove(partial)
            raise
        partial.rename(folder)
        self.prune()

    def prune(self, keep_seconds: float = KEEP_SECONDS) -> None:
        """Remove layers that no container uses and none has used for *keep_seconds*."""
        for folder in self.root.iterdir():
            lock = self._lock_file(folder)
            if not folder.is_dir() or folder.suffix or not lock.exists():
                continue
            if time.time() - lock.stat().st_mtime < keep_seconds:
                continue
            with lock.open("r+b") as held:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                doomed = folder.with_suffix(".partial")
                _remove(doomed)
                folder.rename(doomed)
                _remove(doomed)
                lock.unlink()

    @staticmethod
    def _lock_file(folder: Path) -> Path:
        return folder.with_suffix(".lock")

    def _is_current(self, descriptor: int, folder: Path) -> bool:
        """Whether the lock file we hold is still the one that others find."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock_file(folder).stat())
        except FileNotFoundError:
            return False


def unpack(layer: Layer, folder: Path) -> None:
    """Write the files of *layer* into the empty *folder*, and check the layer's bytes.

    Owners are kept when root runs this; else everything belongs to the caller.

    Raises:
        ImageError: the bytes are not those of the diff ID, or an entry is unacceptable.
    """
    as_root = os.geteuid() == 0
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    try:
        with layer.open() as plain:
            stream = _Hashing(plain)
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", errorlevel=2) as archive:
                for entry in archive:
                    path = _target(layer, folder, entry)
                    _extract(layer, archive, entry, path, folder)
                    if as_root:
                        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
                    if entry.isdir():
                        folders.append((path, entry))
                    elif not entry.issym() and not entry.islnk():
                        _finish(path, entry)
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ImageError(f"{layer.blob}: cannot be unpacked into {folder}: {error}") from error
    # Last and deepest first: files inside change the times, and a folder may be read-only.
    for path, entry in reversed(folders):
        _finish(path, entry)
    if stream.digest() != layer.diff_id:
        raise ImageError(
            f"{layer.blob}: expected diff ID {layer.diff_id}, got {stream.digest()}; build the image again"
        )


def _target(layer: Layer, folder: Path, entry: tarfile.TarInfo) -> Path:
    """Where *entry* goes: below *folder*, and through no symbolic link."""
    parts = PurePosixPath(entry.name.lstrip("/")).parts
    if ".." in parts:
        raise ImageError(f"{layer.blob}: {entry.name}: a path may not contain '..'")
    if parts and parts[-1].startswith(WHITEOUT):
        raise ImageError(
            f"{layer.blob}: {entry.name}: layers that remove files of lower layers are not supported"
        )
    path = folder
    for part in parts[:-1]:
        path /= part
        if path.is_symlink():
            raise ImageError(f"{layer.blob}: {entry.name}: {part!r} on its way is a symbolic link")
        if not path.exists():
            path.mkdir(mode=0o755)
    return path / parts[-1] if parts else folder


def _extract(
    layer: Layer, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path, folder: Path
) -> None:
    if entry.isdir():
        path.mkdir(mode=0o755, exist_ok=True)
        return
    if path.is_symlink() or path.exists():
        path.unlink()
    if entry.isreg():
        body = archive.extractfile(entry)
        with path.open("xb") as written:
            if body is not None:
                shutil.copyfileobj(body, written, 1 << 18)
    elif entry.issym():
        path.symlink_to(entry.linkname)
    elif entry.islnk():
        linked = tarfile.TarInfo(entry.linkname)
        os.link(_target(layer, folder, linked), path, follow_symlinks=False)
    else:
        raise ImageError(
            f"{layer.blob}: {entry.name}: expected a file, folder or link, got tar type {entry.type!r}"
        )


def _finish(path: Path, entry: tarfile.TarInfo) -> None:
    # Without set-id bits: the files lie on the host, where such a program would be a gift to its users.
    path.chmod(entry.mode & 0o1777)
    os.utime(path, (entry.mtime, entry.mtime))


def _hex(layer: Layer) -> str:
    return layer.diff_id.removeprefix("sha256:")


def _remove(path: Path) -> None:
    """Remove a tree that may hold read-only folders."""
    if not path.exists():
        return
    for parent, _, _ in os.walk(path):
        Path(parent).chmod(0o700)
    shutil.rmtree(path)


class _Hashing:
    """Reads from *source* and digests what passes."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._digest.update(data)
        return data

    def digest(self) -> str:
        return "sha256:" + self._digest.hexdigest()
