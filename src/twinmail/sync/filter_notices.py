"""Tells users that their own script is broken: a message in INBOX, the same one on both servers."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from twinmail.basename import base_name
from twinmail.filter.complaint import Complaint, notice
from twinmail.journal import Record
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir, stem
from twinmail.manifest import INBOX
from twinmail.sync.log import Log, utc_now

# Of a script whose errors name what is in the message, one would be told about each.
_A_DAY = 3
# A mailbox that is restored has old decisions.
_OLD = timedelta(days=2)


class Complaining(Protocol):
    """Who knows the complaints: `twinmail.sync.decisions.Decisions`."""

    @property
    def latest(self) -> Mapping[str, Complaint]:
        """The latest complaint by mailbox."""


class FilterNotices:
    """The chore; *address* is where a mailbox writes from."""

    name = "filter-notices"
    seconds = 5.0
    prefix = ""

    def __init__(
        self, complaining: Complaining, ledger: Ledger, mail: Path, address: Callable[[str], str], log: Log
    ) -> None:
        self._complaining = complaining
        self._ledger = ledger
        self._mail = mail
        self._address = address
        self._log = log
        self._told: dict[str, list[Complaint]] = {}
        # Linked, but perhaps not yet in the ledger: never link these again.
        self._linked: dict[str, Record] = {}

    def turn(self) -> None:
        """Tell what was not told yet.

        Raises:
            NotWritten: a disk is failing; transient.
        """
        for one in self._complaining.latest.values():
            told = [past for past in self._told.get(one.mailbox, ()) if past.day == one.day]
            if one in told or len(told) >= _A_DAY or utc_now() - one.at > _OLD:
                continue
            self._tell(one)
            self._told[one.mailbox] = [*told, one]

    def _tell(self, one: Complaint) -> None:
        identifier = one.identifier
        # Told before a restart, and perhaps deleted since.
        if one.mailbox in self._ledger.mailboxes(base_name(one.at, identifier, 0, 0)):
            return
        record = self._linked.get(identifier)
        if record is None:
            maildir = Maildir(self._mail / one.mailbox / "Maildir")
            name = stem(base_name(one.at, identifier, 0, 0))
            staged = maildir.stage(name, [notice(one, self._address(one.mailbox))], one.at)
            try:
                record = Record(INBOX, base_name(one.at, identifier, staged.size, staged.vsize))
                maildir.link(staged, INBOX, record.name)
                self._linked[identifier] = record
                maildir.settle(INBOX)
            finally:
                maildir.discard(staged.path)
        self._ledger.record(one.mailbox, record)
        self._linked.pop(identifier, None)
        self._log.info("script notice", mailbox=one.mailbox)
