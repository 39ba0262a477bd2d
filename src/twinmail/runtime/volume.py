"""Ownership of the folders that containers read and write."""

import os
from pathlib import Path

from twinmail.runtime.interface import ContainerError


def own(path: Path, uid: int, gid: int) -> None:
    """Create the folder *path* if it does not exist, and give all of it to *uid* and *gid*.

    Symbolic links inside are given away themselves, never followed. Without root nothing can be given
    away; what belongs to *uid* already needs nothing.

    Raises:
        ContainerError: something inside belongs to another user.
    """
    if not path.exists():
        path.mkdir(parents=True, mode=0o700)
    _give(path, uid, gid)
    for parent, folders, files in os.walk(path):
        for name in (*folders, *files):
            _give(Path(parent, name), uid, gid)


def _give(path: Path, uid: int, gid: int) -> None:
    status = path.lstat()
    if os.geteuid() != 0:
        if status.st_uid != uid:
            raise ContainerError(
                f"{path}: expected to belong to user {uid}, but belongs to {status.st_uid}; "
                f"give it back: sudo chown -R {uid}:{gid} {path}"
            )
    elif (status.st_uid, status.st_gid) != (uid, gid):
        os.chown(path, uid, gid, follow_symlinks=False)
