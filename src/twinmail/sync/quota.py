"""Quota at delivery: a message that has no room stays in the log, and comes when there is room.

Every server looks at its own disk: what is full here may have room on the other. What waits is a list in the
ledger; without it (a lost ledger) an entry is simply not finished, so that the next listing meets it again.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from twinmail import durable_file
from twinmail.basename import base_name
from twinmail.config import Config
from twinmail.durable_file import NotWritten
from twinmail.journal import Record
from twinmail.ledger import Ledger, Waiting
from twinmail.maildir import Maildir, stem
from twinmail.manifest import INBOX, Delivery
from twinmail.quota import (
    PLACE,
    Shortage,
    Usage,
    notice,
    notice_id,
    size_of,
    that_fit,
    user_database,
)
from twinmail.sync.log import Log, utc_now
from twinmail.sync.outage import Outage

ORIGIN = "quota"
# What was counted, with what was delivered since, is trusted so long; what users store meanwhile is small.
_TRUST_SECONDS = 60.0
# The clock of a file system may tick this seldom: a change right after a look could show the same time.
_TICK_NANOSECONDS = 2 * 10**9
# Messages tried in one turn: other chores wait for it.
_TURN = 64


@dataclass(frozen=True)
class _Part:
    changed: int
    usage: Usage


@dataclass
class _Mailbox:
    """What is known of one mailbox.

    Attributes:
        used: octets at the last look, and what was delivered since; None before the first.
        held: octets of messages on their way.
        parts: by path of ``new/`` or ``cur/``, what was there when it last changed.
    """

    root: Path
    used: int | None = None
    held: int = 0
    looked: float = 0.0
    parts: dict[Path, _Part] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> int:
        """Count what is there, from file names alone, reading only folders that changed."""
        parts = {}
        for path in _parts(self.root):
            try:
                changed = path.stat().st_mtime_ns
                known = self.parts.get(path)
                if known is None or known.changed != changed:
                    settled = time.time_ns() - changed > _TICK_NANOSECONDS
                    known = _Part(changed if settled else -1, _count(path))
            except (FileNotFoundError, NotADirectoryError):
                # A folder that is gone, or a file whose name begins like that of one.
                continue
            except OSError as error:
                raise NotWritten(f"{path}: cannot be read: {error.strerror}; check the disk") from error
            parts[path] = known
        self.parts = parts
        self.used = sum((one.usage for one in parts.values()), Usage()).octets
        return self.used


def _parts(root: Path) -> Iterator[Path]:
    """``new/`` and ``cur/`` of every folder of the Maildir at *root*."""
    try:
        with os.scandir(root) as found:
            folders = [root, *(root / one.name for one in found if one.name.startswith("."))]
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotWritten(f"{root}: cannot be read: {error.strerror}; check the disk") from error
    for folder in folders:
        yield folder / "new"
        yield folder / "cur"


def _count(path: Path) -> Usage:
    octets = messages = 0
    with os.scandir(path) as found:
        for one in found:
            size = size_of(one.name)
            try:
                octets += one.stat().st_size if size is None else size
            except FileNotFoundError:
                continue
            messages += 1
    return Usage(octets, messages)


class Quotas:
    """Knows how much room each mailbox under *mail* has; safe to use from several threads.

    Attributes:
        quota_of: octets that a mailbox may take.
        shortages: by mailbox, those that mail waits for (see `QuotaChore`).

    Raises:
        NotWritten: from every method, when the disk cannot be read; transient.
    """

    def __init__(
        self, mail: Path, quota_of: Callable[[str], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quota_of = quota_of
        self.shortages: dict[str, Shortage] = {}
        self._mail = mail
        self._clock = clock
        self._lock = threading.Lock()
        self._mailboxes: dict[str, _Mailbox] = {}

    def used(self, mailbox: str) -> int:
        """Octets that *mailbox* takes now."""
        box = self._mailbox(mailbox)
        with box.lock:
            return self._look(box)

    @contextmanager
    def claim(self, deliveries: Sequence[Delivery], octets: int) -> Iterator[tuple[Delivery, ...]]:
        """Hold room for a message of *octets* for *deliveries* during the block.

        Gives those of them that have no room. At the end what was held counts as delivered; if it was not, a
        look finds out.
        """
        full = tuple(one for one in deliveries if not self.hold(one.mailbox, octets))
        try:
            yield full
        finally:
            for one in deliveries:
                if one not in full:
                    self.let_go(one.mailbox, octets)

    def hold(self, mailbox: str, octets: int) -> bool:
        """Hold room for a message of *octets* in *mailbox* until `let_go`; False if it has no room."""
        box, quota = self._mailbox(mailbox), self.quota_of(mailbox)
        with box.lock:
            used = box.used
            old = self._clock() - box.looked > _TRUST_SECONDS
            if used is None or old or used + box.held + octets > quota:
                used = self._look(box)
            if used + box.held + octets > quota:
                return False
            box.held += octets
        return True

    def let_go(self, mailbox: str, octets: int) -> None:
        """End what `hold` began; the message counts as delivered."""
        box = self._mailbox(mailbox)
        with box.lock:
            box.held -= octets
            box.used = (box.used or 0) + octets

    def _mailbox(self, name: str) -> _Mailbox:
        with self._lock:
            if name not in self._mailboxes:
                self._mailboxes[name] = _Mailbox(self._mail / name / "Maildir")
            return self._mailboxes[name]

    def _look(self, box: _Mailbox) -> int:
        box.looked = self._clock()
        return box.look()


def quota_of(config: Config, mailbox: str) -> int:
    """Octets that *mailbox* may take, also when it is no longer in *config* but still gets mail."""
    return config.quota_of(mailbox) if mailbox in config.mailboxes else config.limits.quota_bytes


class Carries(Protocol):
    """What the chore needs of the carrier."""

    ledger: Ledger
    quotas: Quotas
    store: Outage

    def carry(self, key: str, origin: str) -> "Future[Any]":
        """Carry the entry *key*; the future never fails."""


class QuotaChore:
    """Tries again what waits for room as soon as there is some, and tells user and operator meanwhile.

    Nothing is downloaded to find out: sizes are in the ledger, usage is in the names of files.
    """

    name = "quota"
    seconds = 5.0
    prefix = ""

    def __init__(
        self,
        config: Config,
        server: str,
        mail: Path,
        carrier: Carries,
        log: Log,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._server = server
        self._mail = mail
        self._carrier = carrier
        self._ledger = carrier.ledger
        self._quotas = carrier.quotas
        self._log = log
        self._now = now
        # Linked, but perhaps not yet in the ledger: never link these again.
        self._linked: dict[str, Record] = {}

    def turn(self) -> None:
        """Carry what fits now; then say what still waits.

        Raises:
            NotWritten: a disk is failing; transient.
        """
        self._show()
        waiting = self._ledger.waiting()
        if waiting and self._carrier.store.trouble is None:
            self._retry(waiting)
            waiting = self._ledger.waiting()
        shortages = {}
        for mailbox, rows in _by_mailbox(waiting).items():
            octets = sum(one.octets for one in rows)
            used, quota = self._quotas.used(mailbox), self._quotas.quota_of(mailbox)
            shortages[mailbox] = Shortage(mailbox, used, quota, len(rows), octets)
        self._say(shortages)
        # For the status page before the notices: a disk that fails now must not hide it.
        self._quotas.shortages = shortages
        for shortage in shortages.values():
            self._tell(shortage)

    def _show(self) -> None:
        """Tell Dovecot the quotas, also after the configuration changed."""
        data = user_database({name: self._quotas.quota_of(name) for name in self._config.mailboxes})
        path = self._mail / PLACE
        try:
            if path.read_bytes() == data:
                return
        except OSError:
            pass
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise NotWritten(f"{path.parent}: cannot be made: {error.strerror}; mount the volume") from error
        durable_file.write(path, data, mode=0o600)

    def _retry(self, waiting: Sequence[Waiting]) -> None:
        keys: dict[str, None] = {}
        for mailbox, rows in _by_mailbox(waiting).items():
            room = self._quotas.quota_of(mailbox) - self._quotas.used(mailbox)
            keys.update(dict.fromkeys(that_fit(((one.key, one.octets) for one in rows), room)))
        for future in [self._carrier.carry(key, ORIGIN) for key in sorted(keys)[:_TURN]]:
            future.result()

    def _say(self, shortages: dict[str, Shortage]) -> None:
        before = self._quotas.shortages
        for mailbox, one in shortages.items():
            if mailbox not in before:
                self._log.error("mailbox full", mailbox=mailbox, error=str(one), note="kept in the log")
        for mailbox in before.keys() - shortages.keys():
            self._log.info("mailbox has room", mailbox=mailbox)

    def _tell(self, shortage: Shortage) -> None:
        """Put today's notice into the INBOX of the user, once; it is small and needs no room."""
        now, mailbox = self._now(), shortage.mailbox
        identifier = notice_id(self._server, mailbox, now.date())
        # The name is that of the day, so that a restart knows it again.
        day = datetime(now.year, now.month, now.day, tzinfo=UTC)
        name = stem(base_name(day, identifier, 0, 0))
        if mailbox in self._ledger.mailboxes(name):
            return
        record = self._linked.get(identifier)
        if record is None:
            maildir = Maildir(self._mail / mailbox / "Maildir")
            host = self._config.servers[self._server].host
            known = mailbox in self._config.mailboxes
            address = self._config.primary_address(mailbox) if known else None
            data = notice(host, address or f"{mailbox}@{host}", shortage, identifier, now)
            staged = maildir.stage(name, [data], now)
            try:
                record = Record(INBOX, base_name(day, identifier, staged.size, staged.vsize))
                maildir.link(staged, INBOX, record.name)
                self._linked[identifier] = record
                maildir.settle(INBOX)
            finally:
                maildir.discard(staged.path)
        self._ledger.record(mailbox, record)
        self._log.info("notice", mailbox=mailbox, waiting=shortage.waiting, octets=shortage.octets)


def _by_mailbox(waiting: Iterable[Waiting]) -> dict[str, list[Waiting]]:
    rows: dict[str, list[Waiting]] = {}
    for one in waiting:
        rows.setdefault(one.mailbox, []).append(one)
    return rows
