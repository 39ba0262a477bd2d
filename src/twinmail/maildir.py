"""One mailbox's Maildir: folders, durable delivery, and finding our messages in it.

Layout: Maildir++ (https://www.courier-mta.org/imap/README.maildirquota.html): INBOX is the Maildir itself,
every other folder is ``.<name>`` in it with a file ``maildirfolder``. All files 0600, all folders 0700: the
IMAP server runs as the same user.
"""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from twinmail import keyword_file, uidlist
from twinmail.basename import virtual_size
from twinmail.durable_file import NotWritten, sync_folder
from twinmail.manifest import INBOX

STAGING = ".staging"
_PARTS = ("cur", "new", "tmp")
_OWN = re.compile(r"(?P<name>[0-9]+\.[0-9a-f]{32}\.twinmail(,[SW]=[0-9]+)*)(:2,.*)?")
_CHUNK = 1 << 20
# A listing during which something was renamed may have missed it; see `Maildir.scan`.
_SCANS = 3


def stem(name: str) -> str:
    """What identifies the message in the base name *name*: all before the sizes and the flags."""
    return name.partition(":")[0].partition(",")[0]


@dataclass(frozen=True)
class Staged:
    """A durable file in ``tmp/``, and what its octets are.

    Attributes:
        size: octets.
        vsize: octets as IMAP shows them.
        sha256: 64 hexadecimal digits.
    """

    path: Path
    size: int
    vsize: int
    sha256: str


class Maildir:
    """The Maildir at *root* (``<mail>/<mailbox>/Maildir``).

    Raises:
        NotWritten: from every method, when the disk is full, read-only or failing; transient. Nothing is
            left in ``new/`` then, and nothing in ``tmp/`` if it can be removed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prepared: set[str] = set()

    def folder(self, name: str) -> Path:
        """Where the folder *name* is; its name was checked when the manifest entry was read."""
        return self.root if name == INBOX else self.root / f".{name}"

    def prepare(self, name: str) -> None:
        """Make sure that the folder *name* exists, durably."""
        if name in self._prepared:
            return
        folder = self.folder(name)
        try:
            for path in (self.root.parent, self.root, folder, *(folder / part for part in _PARTS)):
                if not path.is_dir():
                    path.mkdir(mode=0o700, exist_ok=True)
                    sync_folder(path.parent)
            if name != INBOX:
                os.close(os.open(folder / "maildirfolder", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                sync_folder(folder)
        except OSError as error:
            raise _failure(folder, error) from error
        self._prepared.add(name)

    def stage(self, name: str, chunks: Iterable[bytes], arrived: datetime, *, durable: bool = True) -> Staged:
        """Write *chunks* to a file in ``tmp/`` named after *name*; if not *durable*, the caller flushes it.

        Its modification time is *arrived*: Dovecot shows it as INTERNALDATE, equal on every server.
        """
        self.prepare(INBOX)
        # Unique, so that a leftover of a killed process is never appended to.
        path = Path(f"{self.root}/tmp/{name}.{secrets.token_hex(4)}{STAGING}")
        digest, size = hashlib.sha256(), 0

        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._prepared.clear()
            raise _failure(path, error) from error
        try:
            try:

                def copied() -> Iterator[bytes]:
                    nonlocal size
                    for chunk in chunks:
                        digest.update(chunk)
                        size += len(chunk)
                        rest = memoryview(chunk)
                        while rest:
                            rest = rest[_write(path, descriptor, rest) :]
                        yield chunk

                vsize = virtual_size(copied())
                _finish(path, descriptor, arrived, durable)
            finally:
                os.close(descriptor)
        except BaseException:
            self.discard(path)
            raise
        return Staged(path, size, vsize, digest.hexdigest())

    def take(self, staged: Staged, name: str, arrived: datetime) -> Staged:
        """Return *staged*, of another mailbox, as a file that can be linked here: itself, or a copy."""
        self.prepare(INBOX)
        try:
            if staged.path.stat().st_dev == self.root.stat().st_dev:
                return staged
            with staged.path.open("rb") as file:
                return self.stage(name, iter(lambda: file.read(_CHUNK), b""), arrived)
        except OSError as error:
            raise _failure(staged.path, error) from error

    def info(self, folder: str, flags: str, keywords: Sequence[str]) -> str:
        """What a name in *folder* ends with for *flags* and *keywords* (``:2,FSa``); nothing for none.

        Raises:
            FolderLocked: the folder does not know a keyword, and its list cannot be changed now; transient.
        """
        self.prepare(folder)
        letters = keyword_file.ensure(self.folder(folder), keywords) if keywords else ""
        return f":2,{flags}{letters}" if flags or letters else ""

    def link(self, staged: Staged, folder: str, name: str, info: str = "") -> Path:
        """Make *staged* visible as *name* in *folder*; `settle` makes that durable.

        It goes into ``new/``, or with *info* (see `info`) into ``cur/``, where names have flags. The name is
        taken only by the same message, delivered before a crash.
        """
        return self.link_file(staged.path, folder, name, info)

    def link_file(self, file: Path, folder: str, name: str, info: str = "") -> Path:
        """Make *file*, a message of this very Maildir, visible in *folder*; see `link`."""
        self.prepare(folder)
        path = Path(f"{self.folder(folder)}/{_part(info)}/{name}{info}")
        try:
            path.hardlink_to(file)
        except FileExistsError:
            pass
        except OSError as error:
            # A folder that its user deleted over IMAP is made again by the next attempt.
            self._prepared.clear()
            raise _failure(path, error) from error
        return path

    def settle(self, folder: str, info: str = "") -> None:
        """Make the names durable that `link` made in *folder*."""
        path = self.folder(folder) / _part(info)
        try:
            sync_folder(path)
        except OSError as error:
            raise _failure(path, error) from error

    def discard(self, path: Path) -> None:
        """Remove a staged file; what cannot be removed now is removed by `sweep`."""
        with suppress(OSError):
            path.unlink()

    def sweep(self) -> int:
        """Remove what a killed process left in ``tmp/``, and its locks on lists of keywords; count them."""
        leftovers = [path for path in _names(self.root / "tmp") if path.name.endswith(STAGING)]
        for path in leftovers:
            self.discard(path)
        return len(leftovers) + sum(keyword_file.release(folder) for _, folder in self._folders())

    def scan(self) -> dict[str, tuple[str, str]]:
        """Find our messages: folder and base name, by stem, in ``new/`` and ``cur/`` of every folder.

        A rename (new flags, a move to another folder) during the listing may hide a file from it, so
        the listing is repeated until no folder changed meanwhile.
        """
        found: dict[str, tuple[str, str]] = {}
        for _ in range(_SCANS):
            before = self._changed()
            for folder, path in self._folders():
                # new/ first: Dovecot moves from new/ to cur/, never back.
                for part in ("new", "cur"):
                    for file in _names(path / part):
                        match = _OWN.fullmatch(file.name)
                        if match:
                            found.setdefault(stem(match["name"]), (folder, match["name"]))
            if before == self._changed():
                break
        return found

    def files(self) -> Iterator[tuple[str, str, Path]]:
        """Folder, base name and path of each file of ours, as it is met; see `scan` for what is renamed."""
        for folder, path in self._folders():
            for part in ("new", "cur"):
                try:
                    with os.scandir(path / part) as met:
                        for one in met:
                            if match := _OWN.fullmatch(one.name):
                                yield folder, match["name"], Path(one.path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    raise _failure(path / part, error) from error

    def stems(self) -> frozenset[str]:
        """Of all our messages that are in any folder, under whichever name."""
        guids = {stem(guid) for _, path in self._folders() for guid in _guids(path).values()}
        return frozenset(self.scan()) | guids

    def copies(self, wanted: str) -> list[tuple[str, str]]:
        """Folder and flags (letters) of each file of the message with the stem *wanted*.

        Its name is its stem, or Dovecot's list of the folder notes it as the GUID of another name.
        """
        found = []
        for folder, path in self._folders():
            names = [file.name for part in ("new", "cur") for file in _names(path / part)]
            own = [name for name in names if stem(name) == wanted]
            if not own:
                others = {name for name, guid in _guids(path).items() if stem(guid) == wanted}
                own = [name for name in names if name.partition(":")[0] in others]
            found += [(folder, name.partition(":2,")[2]) for name in own]
        return found

    def _folders(self) -> list[tuple[str, Path]]:
        others = [path for path in _names(self.root) if path.name.startswith(".") and (path / "cur").is_dir()]
        return [(INBOX, self.root), *((path.name[1:], path) for path in others)]

    def _changed(self) -> list[tuple[Path, int]]:
        """When the set of names in each folder last changed."""
        parts = [path / part for _, path in self._folders() for part in ("new", "cur")]
        times = []
        for part in parts:
            with suppress(FileNotFoundError, NotADirectoryError):
                times.append((part, part.stat().st_mtime_ns))
        return times


def _part(info: str) -> str:
    return "cur" if info else "new"


def _names(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return [folder / one.name for one in found]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _failure(folder, error) from error


def _guids(folder: Path) -> dict[str, str]:
    try:
        return uidlist.guids((folder / uidlist.NAME).read_text("utf-8", "replace").splitlines())
    except OSError:
        return {}


def _write(path: Path, descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data)
    except OSError as error:
        raise _failure(path, error) from error


def _finish(path: Path, descriptor: int, arrived: datetime, durable: bool) -> None:
    seconds = arrived.timestamp()
    try:
        os.utime(descriptor, (seconds, seconds))
        # fsync before the link: a crash must never leave a truncated message in new/.
        if durable:
            os.fsync(descriptor)
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: Path, error: OSError) -> NotWritten:
    remedy = {
        errno.ENOSPC: "free space",
        errno.EDQUOT: "raise the quota",
        errno.EROFS: "mount it for writing",
        errno.EACCES: "give it to the user the syncer runs as",
    }.get(error.errno or 0, "check the disk")
    return NotWritten(f"{path}: {error.strerror}; {remedy}")
