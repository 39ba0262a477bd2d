"""Files as a source: mboxes, Maildirs, trees of them and of .eml files, and zip archives of such trees.

What a file is, its contents say; names are asked only where these do not tell (an .eml file may be anything).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinmail.importing import archive, maildir_reader, mbox, moment
from twinmail.importing.source import Folder, Item, Known, Mail, SourceBroken, Trouble

_START = 8192
_MESSAGE = re.compile(
    rb"(?:[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*){0,200}?"
    rb"(?:from|date|received|message-id|mime-version|return-path|subject)[ \t]*:",
    re.IGNORECASE,
)
_MBOX_NAMES = (".mbox", ".mbx", ".mail")
_NESTED = ".sbd"  # Thunderbird: the folders below ``Name`` are in ``Name.sbd``


@dataclass(frozen=True)
class Part:
    """Messages that were found together.

    Attributes:
        levels: their folder, outermost first; empty for none.
        messages: how many; None if only reading tells.
        read: reads them, none above a number of octets.
    """

    levels: tuple[str, ...]
    octets: int
    messages: int | None
    read: Callable[[int], Iterator[Item]]


class Files:
    """The messages in *paths* as a `Source`; none may have more than *limit* octets.

    Raises:
        SourceBroken: a path is not there, or nothing of it is mail.
    """

    def __init__(self, paths: Sequence[Path], limit: int) -> None:
        self.name = ", ".join(map(str, paths))
        self._limit = limit
        self._parts: list[Part] = []
        for path in paths:
            try:
                found = list(parts(path))
            except OSError as error:
                raise SourceBroken(
                    f"{error.filename or path}: cannot be read: {error.strerror or error}"
                ) from error
            if not found:
                raise SourceBroken(
                    f"{path}: no mail in it; expected an mbox, a Maildir, .eml files, or a zip of these"
                )
            self._parts += found

    def folders(self) -> Sequence[Folder]:
        """See `Source`."""
        return [
            Folder(one.levels, "", one.messages, one.octets, str(number))
            for number, one in enumerate(self._parts)
        ]

    def read(self, folder: Folder, known: Known) -> Iterator[Item]:
        """See `Source`; files have no marks: reading them is cheap."""
        try:
            yield from self._parts[int(folder.key)].read(self._limit)
        except OSError as error:
            raise SourceBroken(
                f"{error.filename or folder}: cannot be read: {error.strerror or error}"
            ) from error

    def survey(self, folder: Folder) -> Sequence[tuple[str, int]] | None:
        """See `Source`."""
        return None


def parts(path: Path) -> Iterator[Part]:
    """What is in *path*.

    Raises:
        OSError: it cannot be read.
        SourceBroken: it is a damaged archive.
    """
    if path.is_dir():
        yield from _folder(path, ())
        return
    with path.open("rb") as file:
        start = file.read(_START)
    if archive.is_zip(start):
        yield from (Part(*one) for one in archive.parts(path, is_message))
    elif mbox.is_mbox(start):
        yield _mbox_part(path, (folder_of(path.name),))
    elif is_message(path.name, start):
        yield _message_part([path], ())


def _folder(folder: Path, levels: tuple[str, ...]) -> Iterator[Part]:
    found = sorted(folder.iterdir(), key=lambda path: path.name)
    is_maildir = maildir_reader.is_maildir(folder)
    if is_maildir:
        yield _maildir_part(folder, levels or ("INBOX",))
    else:
        yield from _loose([one for one in found if one.is_file()], levels)
    for path in found:
        if path.is_symlink() or not path.is_dir() or (is_maildir and path.name in maildir_reader.PARTS):
            continue
        if path.name.startswith("."):
            if maildir_reader.is_maildir(path):
                yield from _folder(path, (*levels, *maildir_reader.levels(path.name[1:])))
        elif path.name.endswith(".mbox") and (path / "mbox").is_file():
            # Apple's Mail exports a folder so.
            yield _mbox_part(path / "mbox", (*levels, folder_of(path.name)))
        else:
            name = path.name.removesuffix(_NESTED)
            yield from _folder(path, (*levels, maildir_reader.plain(name)))


def _loose(files: Sequence[Path], levels: tuple[str, ...]) -> Iterator[Part]:
    messages = []
    for path in files:
        if path.name.startswith("."):
            continue
        with path.open("rb") as file:
            start = file.read(_START)
        if mbox.is_mbox(start):
            yield _mbox_part(path, (*levels, folder_of(path.name)))
        elif is_message(path.name, start):
            messages.append(path)
    if messages:
        yield _message_part(messages, levels)


def is_message(name: str, start: bytes) -> bool:
    """Whether the file *name* that begins with *start* is one message."""
    return name.lower().endswith(".eml") or _MESSAGE.match(start) is not None


def folder_of(name: str) -> str:
    """The folder that the mbox *name* holds."""
    for suffix in _MBOX_NAMES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _mbox_part(path: Path, levels: tuple[str, ...]) -> Part:
    status = path.stat()
    changed = datetime.fromtimestamp(int(status.st_mtime), UTC)
    return Part(
        levels,
        status.st_size,
        None,
        lambda limit: mbox.read(str(path), lambda: path.open("rb"), limit, changed),
    )


def _maildir_part(folder: Path, levels: tuple[str, ...]) -> Part:
    files = maildir_reader.files(folder)
    return Part(levels, _octets(files), len(files), lambda limit: maildir_reader.read(folder, limit))


def _message_part(files: Sequence[Path], levels: tuple[str, ...]) -> Part:
    return Part(levels, _octets(files), len(files), lambda limit: _messages(files, limit))


def _octets(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _messages(files: Sequence[Path], limit: int) -> Iterator[Item]:
    for path in files:
        try:
            status = path.stat()
            content = path.read_bytes() if status.st_size <= limit else b""
        except OSError as error:
            yield Trouble(str(path), f"cannot be read: {error.strerror}")
            continue
        changed = datetime.fromtimestamp(int(status.st_mtime), UTC)
        yield single(str(path), content, status.st_size, limit, changed)


def single(place: str, content: bytes, size: int, limit: int, changed: datetime) -> Item:
    """The message of one file, with *content* if its *size* is not above *limit*."""
    if size > limit:
        return Trouble(place, f"expected at most {limit} octets, got {size}")
    if not content.strip():
        return Trouble(place, "empty")
    # The file's time is that of the export; the header knows when the message came.
    arrived = moment.first_possible((moment.of_header(content), changed), datetime.now(UTC))
    return Mail(place, content, arrived, frozenset({"\\Seen"}))
