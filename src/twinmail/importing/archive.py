"""Reads zip archives of mail: WorkMail's mailbox export, and whatever else packs folders of messages.

Nothing is unpacked to the disk; a member is read once, and only as far as a message may be long.
"""

import io
import lzma
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from twinmail.importing import mbox, moment
from twinmail.importing.folder_map import is_known_name
from twinmail.importing.source import Item, Mail, SourceBroken, Trouble

_START = 8192
_SUFFIXES = (".mbox", ".mbx")
# What the standard library raises for damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)

Found = tuple[tuple[str, ...], int, int | None, Callable[[int], Iterator[Item]]]
"""Levels of a folder, octets, messages (None if only reading tells), and what reads them."""


def is_zip(start: bytes) -> bool:
    """Whether a file that begins with *start* is a zip archive."""
    return start.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def parts(path: Path, is_message: Callable[[str, bytes], bool]) -> Iterator[Found]:
    """What is in the archive at *path*, by folder.

    Raises:
        SourceBroken: it is damaged, or encrypted.
    """
    messages: dict[tuple[str, ...], list[zipfile.ZipInfo]] = defaultdict(list)
    mboxes: list[tuple[tuple[str, ...], zipfile.ZipInfo]] = []
    try:
        with zipfile.ZipFile(path) as opened:
            for member in opened.infolist():
                name = _name(member)
                if member.is_dir() or name.name.startswith(".") or "__MACOSX" in name.parts:
                    continue
                if member.flag_bits & 1:
                    raise SourceBroken(f"{path}: encrypted; unpack it first, and import the folder")
                folder = tuple(part for part in name.parts[:-1] if part not in ("/", ".", ".."))
                try:
                    with opened.open(member) as file:
                        start = file.read(_START)
                except _DAMAGE:
                    # Told when it is read, with its place.
                    messages[folder].append(member)
                    continue
                if mbox.is_mbox(start):
                    mboxes.append(((*folder, _stem(name.name)), member))
                elif is_message(name.name, start):
                    messages[folder].append(member)
    except _DAMAGE as error:
        raise SourceBroken(f"{path}: damaged: {error}; download it again") from error
    top = _top([*messages, *(folder for folder, _ in mboxes)])
    for folder, members in sorted(messages.items()):
        octets = sum(one.file_size for one in members)
        yield folder[top:], octets, len(members), _reader(path, members)
    for folder, member in sorted(mboxes, key=lambda one: one[0]):
        yield folder[top:], member.file_size, None, _mbox_reader(path, member)


def _name(member: zipfile.ZipInfo) -> PurePosixPath:
    name = member.filename
    if not member.flag_bits & 0x800:
        # Without the mark of UTF-8 the module takes it for the code page of DOS; most programs meant UTF-8.
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = member.filename
    return PurePosixPath(name.replace("\\", "/"))


def _stem(name: str) -> str:
    suffix = next((one for one in _SUFFIXES if name.lower().endswith(one) and len(name) > len(one)), "")
    return name[: len(name) - len(suffix)]


def _top(folders: Sequence[tuple[str, ...]]) -> int:
    """How many outer levels are the archive's own: those that hold all folders and no message."""
    count = 0
    while folders and all(len(one) > count + 1 and one[count] == folders[0][count] for one in folders):
        if is_known_name(folders[0][count]) or not any(is_known_name(one[count + 1]) for one in folders):
            break
        count += 1
    return count


def _reader(path: Path, members: Sequence[zipfile.ZipInfo]) -> Callable[[int], Iterator[Item]]:
    def read(limit: int) -> Iterator[Item]:
        with zipfile.ZipFile(path) as opened:
            for member in members:
                yield _message(opened, member, f"{path}: {_name(member)}", limit)

    return read


def _message(opened: zipfile.ZipFile, member: zipfile.ZipInfo, place: str, limit: int) -> Item:
    try:
        with opened.open(member) as file:
            # The size in the directory is a claim.
            content = file.read(limit + 1)
    except (*_DAMAGE, OSError) as error:
        return Trouble(place, f"damaged: {error}")
    if len(content) > limit:
        return Trouble(place, f"expected at most {limit} octets, got {max(member.file_size, len(content))}")
    if not content.strip():
        return Trouble(place, "empty")
    now = datetime.now(UTC)
    arrived = moment.first_possible((moment.of_header(content), _changed(member)), now)
    return Mail(place, content, arrived, frozenset({"\\Seen"}))


def _mbox_reader(path: Path, member: zipfile.ZipInfo) -> Callable[[int], Iterator[Item]]:
    def read(limit: int) -> Iterator[Item]:
        place = f"{path}: {_name(member)}"
        with zipfile.ZipFile(path) as opened:

            def stream() -> IO[bytes]:
                return io.BufferedReader(opened.open(member))  # type: ignore[type-var]

            try:
                yield from mbox.read(place, stream, limit, _changed(member) or datetime.now(UTC))
            except _DAMAGE as error:
                yield Trouble(place, f"damaged, the rest of it is lost: {error}")

    return read


def _changed(member: zipfile.ZipInfo) -> datetime | None:
    try:
        return datetime(*member.date_time, tzinfo=UTC)
    except ValueError:
        return None
