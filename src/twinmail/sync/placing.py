"""Places a staged message in a mailbox, in the order of durable writes: names, journal, ledger."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmail import copies, subscription_file
from twinmail.basename import base_name
from twinmail.copies import Note, Target
from twinmail.filter.decision import Placement
from twinmail.journal import Record
from twinmail.ledger import Delivery, Ledger
from twinmail.maildir import Maildir, Staged
from twinmail.manifest import INBOX, JUNK, Entry
from twinmail.sync.plan import message_stem
from twinmail.sync.steps import Checkpoint

# Dovecot makes these itself, and subscribes their user.
_KNOWN = (INBOX, JUNK, "Trash", "Sent", "Drafts", "Archive")


@dataclass(frozen=True)
class _Linked:
    """Visible, but not yet in the ledger."""

    record: Record
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Placed:
    """The message of *entry*, which is *staged*, and its one place in *mailbox*."""

    mailbox: str
    staged: Staged
    entry: Entry
    placement: Placement
    finishes: str


class Placing:
    """Places messages in the mailboxes under *mail*, and tells *ledger*.

    Raises:
        NotWritten: from every method, when the disk is in trouble; transient.
    """

    def __init__(self, mail: Path, ledger: Ledger, checkpoint: Checkpoint) -> None:
        self._mail = mail
        self._ledger = ledger
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        self._maildirs: dict[str, Maildir] = {}
        # The disk failed between a link and the ledger: never link these again.
        self._linked: dict[tuple[str, str], _Linked] = {}

    def maildir(self, mailbox: str) -> Maildir:
        """The Maildir of *mailbox*."""
        with self._lock:
            if mailbox not in self._maildirs:
                self._maildirs[mailbox] = Maildir(self._mail / mailbox / "Maildir")
            return self._maildirs[mailbox]

    def is_linked(self, mailbox: str, stem: str) -> bool:
        """Whether the message *stem* is visible in *mailbox* already, and only the ledger does not know."""
        return (mailbox, stem) in self._linked

    def finish(self, mailbox: str, stem: str, finishes: str | None) -> None:
        """Complete what `is_linked`; *finishes* is the manifest key that this was the last delivery of."""
        linked, maildir = self._linked[mailbox, stem], self.maildir(mailbox)
        copies.complete(maildir, linked.record.name)
        for one in linked.targets:
            maildir.settle(one.folder, one.info)
        self._record(mailbox, stem, linked.record, finishes)

    def place(
        self,
        mailbox: str,
        staged: Staged,
        entry: Entry,
        placements: Sequence[Placement],
        finishes: str | None,
    ) -> None:
        """Put the message of *entry*, which is *staged*, into *mailbox*: one copy for each of *placements*.

        Raises:
            FolderLocked: transient.
        """
        maildir, stem = self.maildir(mailbox), message_stem(entry)
        name = base_name(entry.arrived, entry.ses_id, staged.size, staged.vsize)
        record = Record(placements[0].folder, name)
        own = maildir.take(staged, stem, entry.arrived)
        try:
            targets = tuple(self._target(maildir, one) for one in placements)
            if len(targets) > 1:
                copies.begin(maildir, Note(name, targets))
            for one in targets:
                maildir.link(own, one.folder, name, one.info)
                self._linked[mailbox, stem] = _Linked(record, targets)
                self._checkpoint("linked")
            for one in targets:
                maildir.settle(one.folder, one.info)
            self._checkpoint("settled")
            self._record(mailbox, stem, record, finishes)
            if len(targets) > 1:
                copies.end(maildir, name)
        finally:
            if own is not staged:
                maildir.discard(own.path)

    def place_all(self, several: Sequence[Placed]) -> None:
        """Put each of *several*, whose files are durable, into its mailbox: one flush a folder, one record.

        Raises:
            FolderLocked: transient.
        """
        records, folders = [], {}
        for one in several:
            maildir, stem = self.maildir(one.mailbox), message_stem(one.entry)
            name = base_name(one.entry.arrived, one.entry.ses_id, one.staged.size, one.staged.vsize)
            target = self._target(maildir, one.placement)
            maildir.link(one.staged, target.folder, name, target.info)
            record = Record(target.folder, name)
            self._linked[one.mailbox, stem] = _Linked(record, (target,))
            self._checkpoint("linked")
            folders[one.mailbox, target.folder, bool(target.info)] = (maildir, target)
            records.append(Delivery(one.mailbox, record, one.finishes))
        for maildir, target in folders.values():
            maildir.settle(target.folder, target.info)
        self._checkpoint("settled")
        self._ledger.record_all(records, self._checkpoint)
        self._checkpoint("recorded")
        for one in several:
            self._linked.pop((one.mailbox, message_stem(one.entry)), None)

    @staticmethod
    def _target(maildir: Maildir, one: Placement) -> Target:
        if one.folder not in _KNOWN and not maildir.folder(one.folder).is_dir():
            # First, so that a crash never leaves a folder that clients do not show.
            maildir.prepare(INBOX)
            subscription_file.add(maildir.root, one.folder)
        return Target(one.folder, maildir.info(one.folder, one.flags, one.keywords))

    def _record(self, mailbox: str, stem: str, record: Record, finishes: str | None) -> None:
        self._ledger.record(mailbox, record, finishes, self._checkpoint)
        self._checkpoint("recorded")
        self._linked.pop((mailbox, stem), None)
