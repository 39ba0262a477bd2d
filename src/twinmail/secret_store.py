"""The operator's secrets: one file each, readable by nobody else, never in git.

Names are paths such as ``syncer/backup/credentials``; who reads which is in docs/secrets.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from twinmail import durable_file
from twinmail.errors import PermanentError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")


class SecretStoreError(PermanentError):
    """A secret cannot be read, or others can read it."""


class SecretStore:
    """The secrets in the folder *root*, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where the secret *name* is, or would be."""
        if not _NAME.fullmatch(name):
            raise SecretStoreError(f"{name!r} is not the name of a secret")
        return self.root / name

    def get(self, name: str) -> bytes | None:
        """The secret *name*; None if there is none.

        Raises:
            SecretStoreError: it cannot be read, or its mode lets others read it.
        """
        path = self.path(name)
        try:
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                raise SecretStoreError(f"{path}: mode {mode:04o} lets others read it; chmod 0600 {path}")
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretStoreError(f"{path}: cannot be read: {error.strerror}") from error

    def put(self, name: str, data: bytes) -> None:
        """Keep *data* as the secret *name*, durably, in place of what it was.

        Raises:
            NotWritten: transient; what it was is untouched.
        """
        path = self.path(name)
        missing = [one for one in (path.parent, *path.parent.parents) if not one.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        durable_file.write(path, data, mode=0o600)

    def remove(self, name: str) -> None:
        """Forget the secret *name*, if there is one."""
        self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """All secrets, sorted."""
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            # Not what a killed writer left beside them.
            if path.is_file() and _NAME.fullmatch(name):
                yield name
