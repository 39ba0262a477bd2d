"""Sees that a sent message has exactly one copy in Sent, under the id that its recipients know.

Whoever wrote the copy, a mail program over IMAP or the relay, and however often: SES's event about the
message (`twinmail.sent_record`) says which ids belong together. Nothing is kept here between two starts; what
is looked at is what was sent lately, and doing it again changes nothing.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twinmail import layout
from twinmail.config import Config
from twinmail.durable_file import NotWritten, sync_folder
from twinmail.errors import TransientError, TwinmailError
from twinmail.maildir import Maildir
from twinmail.message import HEADER_BYTES, header_block, read_metadata
from twinmail.sent import SENT, Copy, Settlement, base_name, message_id, rewritten, settle
from twinmail.sent_record import SentRecord, SentRecordError
from twinmail.sync.log import Log, utc_now
from twinmail.sync.state_store import StateStore

WINDOW = timedelta(days=2)
"""So long after sending a mail program may still store its copy, having been offline in between."""

PULL_SECONDS = 600.0
LOOK_SECONDS = 2.0

# Copies written before the message was sent (a program may store first), by clocks that differ.
_EARLY = timedelta(hours=1)
_CHUNK = 1 << 20
# File systems stamp a folder by a clock of up to 10 ms; what changed so lately may change again unseen.
_FRESH_NS = 1_000_000_000


class SentTrouble(TransientError):
    """The Sent folders of some mailboxes could not be settled."""


@dataclass(frozen=True)
class _Seen:
    """A file that was looked into: what its header says, by name without flags."""

    message_id: str
    date: str
    sender: str


class SentSettle:
    """The `Chore` that looks into the Sent folders under *mail* for what was sent lately."""

    name = "sent"
    prefix = ""

    def __init__(self, config: Config, mail: Path, log: Log, seconds: float = LOOK_SECONDS) -> None:
        self.seconds = seconds
        self._config = config
        self._mail = mail
        self._log = log
        self._records: dict[str, SentRecord] = {}
        self._looked: dict[str, tuple[int, int]] = {}
        self._seen: dict[str, dict[str, _Seen]] = {}

    @property
    def known(self) -> Mapping[str, SentRecord]:
        """What was sent lately, by object key."""
        return self._records

    def add(self, key: str, record: SentRecord) -> None:
        """From now on the copies of *record* are looked for."""
        self._records[key] = record
        for mailbox in record.mailboxes:
            self._looked.pop(mailbox, None)

    def turn(self) -> None:
        """See `Chore`.

        Raises:
            SentTrouble: not for every mailbox.
        """
        limit = utc_now() - WINDOW
        self._records = {key: one for key, one in self._records.items() if one.at > limit}
        troubles = []
        names = {name for one in self._records.values() for name in one.mailboxes}
        for mailbox in names & set(self._config.mailboxes):
            try:
                self._look(mailbox)
            except (TwinmailError, OSError) as error:
                troubles.append(f"{mailbox}: {error}")
        if troubles:
            raise SentTrouble("; ".join(troubles))

    def _look(self, mailbox: str) -> None:
        maildir = Maildir(self._mail / mailbox / "Maildir")
        folder = maildir.folder(SENT)
        changed = _changed(folder)
        if self._looked.get(mailbox) == changed:
            return
        records = [one for one in self._records.values() if mailbox in one.mailboxes]
        copies = self._copies(mailbox, folder, min(one.at for one in records) - _EARLY)
        for record in records:
            told = settle(record.message_id, message_id(record.ses_id, self._config.region), copies)
            if told is not None and self._settle(maildir, record, told):
                self._log.info(
                    "sent copy settled",
                    mailbox=mailbox,
                    ses_id=record.ses_id,
                    rewritten=told.rewrite,
                    removed=len(told.remove),
                )
        # What was changed just now may change again within the same tick of the file system's clock.
        if changed == _changed(folder) and max(changed) < utc_now().timestamp() * 1e9 - _FRESH_NS:
            self._looked[mailbox] = changed

    def _copies(self, mailbox: str, folder: Path, since: datetime) -> list[Copy]:
        """The messages that came into *folder* after *since*."""
        before = self._seen.get(mailbox, {})
        seen: dict[str, _Seen] = {}
        copies = []
        for path in _files(folder, since):
            base, _, flags = path.name.partition(":2,")
            header = before.get(base)
            if header is None:
                try:
                    header = _read(path)
                except FileNotFoundError:
                    # Renamed meanwhile: the folder has changed, so it is met again.
                    continue
            seen[base] = header
            copies.append(Copy(path.name, header.message_id, header.date, header.sender, flags))
        self._seen[mailbox] = seen
        return sorted(copies, key=lambda one: one.file)

    def _settle(self, maildir: Maildir, record: SentRecord, told: Settlement) -> bool:
        """The new copy first, durably; then the replaced ones go. False if the folder changed meanwhile."""
        folder = maildir.folder(SENT)
        gone = list(told.remove)
        if told.rewrite:
            source = _find(folder, told.keep.file)
            if source is None:
                return False
            new_id = message_id(record.ses_id, self._config.region)
            # INTERNALDATE is the file's time, and stays.
            arrived = datetime.fromtimestamp(source.stat().st_mtime, UTC)
            staged = maildir.stage(record.ses_id, _rewritten(source, new_id), arrived)
            try:
                name = base_name(arrived, record.ses_id, staged.size, staged.vsize)
                info = f":2,{told.flags}"
                maildir.link(staged, SENT, name, info)
                maildir.settle(SENT, info)
            finally:
                maildir.discard(staged.path)
            gone.append(told.keep)
        else:
            _mark(folder, told.keep, told.flags)
        for one in gone:
            path = _find(folder, one.file)
            if path is not None:
                with suppress(FileNotFoundError):
                    path.unlink()
        try:
            for part in ("new", "cur"):
                sync_folder(folder / part)
        except OSError as error:
            raise NotWritten(f"{folder}: {error.strerror}; check the disk") from error
        return True


class SentPull:
    """The `Chore` that fetches what SES says it sent, and has it settled at once."""

    name = "sent-pull"
    prefix = layout.SENT
    seconds = PULL_SECONDS

    def __init__(self, state: StateStore, settle: SentSettle, log: Log) -> None:
        self._state = state
        self._settle = settle
        self._log = log
        self._bad: set[str] = set()

    def turn(self) -> None:
        """See `Chore`.

        Raises:
            SourceUnavailable.
            SentTrouble: see `SentSettle.turn`.
        """
        now = utc_now()
        for back in range(WINDOW.days, -1, -1):
            for key in self._state.keys(layout.sent_day((now - timedelta(days=back)).date())):
                if key not in self._settle.known and key not in self._bad:
                    self._fetch(key, now)
        self._settle.turn()

    def _fetch(self, key: str, now: datetime) -> None:
        stored = self._state.get(key)
        if stored is None:
            return
        try:
            record = SentRecord.from_bytes(stored.data)
        except SentRecordError as error:
            self._bad.add(key)
            self._log.error("record left out", key=key, error=str(error))
            return
        if record.at > now - WINDOW:
            self._settle.add(key, record)
        else:
            self._bad.add(key)


def _changed(folder: Path) -> tuple[int, int]:
    """When the set of names in *folder* last changed."""
    times = [0, 0]
    for number, part in enumerate(("new", "cur")):
        with suppress(FileNotFoundError):
            times[number] = (folder / part).stat().st_mtime_ns
    return times[0], times[1]


def _files(folder: Path, since: datetime) -> Iterator[Path]:
    """The files of *folder* that got their name after *since*."""
    for part in ("new", "cur"):
        with suppress(FileNotFoundError), os.scandir(folder / part) as found:
            for one in found:
                with suppress(FileNotFoundError):
                    # Not the modification time, which is the message's own.
                    if one.stat().st_ctime >= since.timestamp():
                        yield folder / part / one.name


def _read(path: Path) -> _Seen:
    with path.open("rb") as file:
        told = read_metadata(header_block(file.read(HEADER_BYTES)))
    return _Seen(told.message_id, told.date, told.sender)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for part in ("cur", "new") if (path := folder / part / name).exists()), None)


def _mark(folder: Path, copy: Copy, flags: str) -> None:
    path = _find(folder, copy.file)
    if path is not None and flags != copy.flags:
        base = copy.file.partition(":2,")[0]
        with suppress(FileNotFoundError):
            path.rename(folder / "cur" / f"{base}:2,{flags}")


def _rewritten(path: Path, new_id: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield rewritten(file.read(HEADER_BYTES), new_id)
        while chunk := file.read(_CHUNK):
            yield chunk
