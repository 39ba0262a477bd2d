"""A mailbox's Sieve scripts on the disk, as Pigeonhole keeps them: ``sieve/<name>.sieve`` and a link.

The link ``.dovecot.sieve`` beside the folder leads to the active script. Source: Pigeonhole's
``src/lib-sieve/storage/file``. The hidden file `MARKER` in the folder is ours; Pigeonhole passes it over. It
says which scripts this server left there, and so tells this folder from an empty or an older one that took
its place after the disk was lost or restored.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from twinmail import durable_file
from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError
from twinmail.mailbox_settings import SCRIPT_BYTES, is_script_name

FOLDER = "sieve"
LINK = ".dovecot.sieve"
MARKER = ".twinmail"
SUFFIX = ".sieve"
_BINARY = ".svbin"

Fingerprint = tuple[tuple[str, int, int, int], ...]


class Unreadable(TransientError):
    """The folder, or a script in it, cannot be read; that says nothing about what was in it."""


@dataclass(frozen=True)
class Found:
    """What is on the disk.

    Attributes:
        scripts: body and time of the last change (microseconds) by name.
        refused: why a script cannot be shared, by name; it is on the disk, and stays.
        active: the name that the link tells, whether the script is there or not; empty without a link.
        active_at: when the link was made, microseconds.
        foreign: the link is something else, which is not ours to change.
        marker: what `SieveFolder.mark` left; empty if it is not there.
    """

    scripts: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    active: str = ""
    active_at: int = 0
    foreign: bool = False
    marker: str = ""


class SieveFolder:
    """The scripts of the mailbox at *home* (``<mail>/<mailbox>``)."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / FOLDER
        self.link = home / LINK

    def fingerprint(self) -> Fingerprint:
        """What changes when anything here does: cheap, for looking often.

        Raises:
            Unreadable: the folder is there and cannot be listed.
        """
        facts = [_facts("", self.folder), _facts(LINK, self.link)]
        facts += [_facts(name, self.folder / name) for name in (*self._files(), MARKER)]
        return tuple(facts)

    def read(self) -> Found:
        """Read everything.

        Raises:
            Unreadable: something is there and cannot be read.
        """
        scripts: dict[str, tuple[str, int]] = {}
        refused: dict[str, str] = {}
        for file in self._files():
            name = file.removesuffix(SUFFIX)
            if not is_script_name(name):
                continue
            found = self._script(self.folder / file)
            if isinstance(found, str):
                refused[name] = found
            elif found is not None:
                scripts[name] = found
        active, active_at, foreign = self._active()
        return Found(scripts, refused, active, active_at, foreign, self._marker())

    def write(self, name: str, body: str) -> None:
        """Make *body* the script *name*.

        Raises:
            NotWritten: the disk does not take it.
        """
        self._prepare()
        # The compiled script first: it may be newer than the script that is to come, within a second.
        self._forget_binaries(name)
        durable_file.write(self.folder / f"{name}{SUFFIX}", body.encode(), 0o600)

    def remove(self, name: str) -> None:
        """Remove the script *name*.

        Raises:
            NotWritten: the disk does not take it.
        """
        try:
            self._forget_binaries(name)
            (self.folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
        except OSError as error:
            raise _failure(self.folder / name, error) from error

    def activate(self, name: str) -> None:
        """Let the link lead to the script *name*, or be gone.

        Raises:
            NotWritten: the disk does not take it.
        """
        try:
            if not name:
                self.link.unlink(missing_ok=True)
            else:
                self._prepare()
                temporary = self.home / f"{LINK}.twinmail"
                temporary.unlink(missing_ok=True)
                # Relative, and by rename, as Pigeonhole does it: there is one active script at any moment.
                temporary.symlink_to(f"{FOLDER}/{name}{SUFFIX}")
                temporary.replace(self.link)
            (self.home / f".dovecot{_BINARY}").unlink(missing_ok=True)
            if self.home.is_dir():
                durable_file.sync_folder(self.home)
        except OSError as error:
            raise _failure(self.link, error) from error

    def mark(self, marker: str) -> None:
        """Leave *marker* here.

        Raises:
            NotWritten: the disk does not take it.
        """
        self._prepare()
        durable_file.write(self.folder / MARKER, marker.encode("ascii"), 0o600)

    def _files(self) -> list[str]:
        """The names of the script files, sorted."""
        try:
            return sorted(path.name for path in self.folder.iterdir() if path.name.endswith(SUFFIX))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unreadable(self.folder, error) from error

    def _script(self, path: Path) -> tuple[str, int] | str | None:
        """Body and time, or why it is refused; None if it is gone."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(SCRIPT_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        if len(data) > SCRIPT_BYTES:
            return f"expected at most {SCRIPT_BYTES} octets, got {status.st_size}"
        try:
            return data.decode(), status.st_mtime_ns // 1000
        except UnicodeDecodeError as error:
            return f"not UTF-8: octet {error.start}"

    def _active(self) -> tuple[str, int, bool]:
        try:
            status = self.link.lstat()
            if not stat.S_ISLNK(status.st_mode):
                return "", 0, True
            target = self.link.parent / self.link.readlink()
        except (FileNotFoundError, NotADirectoryError):
            return "", 0, False
        except OSError as error:
            raise _unreadable(self.link, error) from error
        name = target.name.removesuffix(SUFFIX)
        ours = target.name.endswith(SUFFIX) and os.path.normpath(target.parent) == os.path.normpath(
            self.folder
        )
        return (name, status.st_mtime_ns // 1000, False) if ours else ("", 0, True)

    def _marker(self) -> str:
        try:
            return (self.folder / MARKER).read_bytes()[:200].decode("ascii", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise _unreadable(self.folder / MARKER, error) from error

    def _prepare(self) -> None:
        try:
            for path in (self.home, self.folder):
                if not path.is_dir():
                    path.mkdir(mode=0o700, exist_ok=True)
                    durable_file.sync_folder(path.parent)
        except OSError as error:
            raise _failure(self.folder, error) from error

    def _forget_binaries(self, name: str) -> None:
        for path in (self.folder / f"{name}{_BINARY}", self.home / f".dovecot{_BINARY}"):
            with suppress(OSError):
                path.unlink()


def _facts(name: str, path: Path) -> tuple[str, int, int, int]:
    try:
        status = path.lstat()
    except OSError:
        return name, 0, 0, 0
    return name, status.st_mtime_ns, status.st_size, status.st_ino


def _unreadable(path: Path, error: OSError) -> Unreadable:
    return Unreadable(f"{path}: cannot be read: {error.strerror}; mend its mode or the disk")


def _failure(path: Path, error: OSError) -> NotWritten:
    return NotWritten(f"{path}: cannot be written: {error.strerror}; free space or mend its mode")
