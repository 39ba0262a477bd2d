"""Indexing: tells Dovecot's indexer which folders got mail, so that the next search finds it in the index.

Dovecot indexes by itself what clients store; what is linked into ``new/`` it would only add before the next
search, and whoever searches would wait for that. So this says what Dovecot says itself after it stored a
message (``fts_queue_index`` in dovecot 2.4.1, src/plugins/fts/fts-storage.c). Losing it costs time, no mail.
"""

import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from pathlib import Path

from twinmail.errors import TransientError
from twinmail.folder_name import imap_name
from twinmail.maildir import Maildir
from twinmail.manifest import INBOX
from twinmail.sync.log import Log, utc_now

# Seen from the folder of the mailboxes; conf/fts.conf of the Dovecot image listens there.
PLACE = Path(".server") / "indexer"

HANDSHAKE = b"VERSION\tindexer-client\t1\t0\n"
# src/lib-language/lang-indexer-status.h
_FAILED, _COMPLETED = "-1", "1"
_CONNECT_SECONDS = 5.0
_INDEX = "fts-flatcurve"
# Each is an index of 5,000 messages, or of what was merged (fts-backend-flatcurve-xapian.cc).
_PARTS = "[ic]*.[0-9]*"
_MANY_PARTS = 4
# So often in a row, a second apart, and it is the index.
_FAILURES = 3

Folder = tuple[str, str]
"""A mailbox, and a folder of it as `twinmail.maildir.Maildir` names it."""


class IndexerAway(TransientError):
    """Dovecot does not take the request; the next search adds what is missing."""


class IndexingChore:
    """Asks the indexer of the mailboxes in *mail* for the folders that got mail since the last turn.

    At the start, and when a day (UTC) begins, it asks for all of them: mail that came while Dovecot was away
    is indexed, and an index that cannot be written any more is noticed. Such a one is removed and made again;
    until then Dovecot reads the messages instead.

    When a day begins it also has indexes of many parts merged. Whoever searches a folder meanwhile waits, so
    Dovecot does not do it by itself whenever a session ends.
    """

    name = "indexing"
    # Long enough to make one request of a burst, short for a user who looks for what just came.
    seconds = 1.0
    prefix = ""

    def __init__(self, mail: Path, log: Log, now: Callable[[], datetime] = utc_now) -> None:
        self._mail = mail
        self._log = log
        self._now = now
        self._lock = threading.Lock()
        self._due: dict[Folder, None] = {}
        self._day: date | None = None
        self._to_merge: set[str] = set()
        # In a row, by folder; and when the index of a folder was removed.
        self._failures: dict[Folder, int] = {}
        self._removed: dict[Folder, date] = {}
        self._connection: socket.socket | None = None
        self._received = b""
        self._tag = 0
        # What the indexer has not answered yet, by the tag of the request.
        self._asked: dict[str, Folder] = {}

    def arrived(self, mailbox: str, folder: str) -> None:
        """Mail arrived in *folder* of *mailbox*; any thread may say so."""
        with self._lock:
            self._due[mailbox, folder] = None

    def turn(self) -> None:
        """See `Chore`. Waits for no indexing: it takes minutes after a restore.

        Raises:
            IndexerAway: said at the next turn again.
        """
        today = self._now().date()
        if today != self._day:
            for mailbox, folder in _folders(self._mail):
                self.arrived(mailbox, folder)
                parts = len(list(self._index(mailbox, folder).glob(_PARTS)))
                if parts >= _MANY_PARTS and self._day is not None:
                    self._to_merge.add(mailbox)
            self._day = today
        try:
            self._receive()
            with self._lock:
                due, self._due = self._due, {}
            # Asked before they are sent: what is not answered is asked again.
            # Not with others: of two requests for a folder the indexer makes one, of the second's kind.
            merge = set() if due or self._asked else self._to_merge
            self._send(due, merge)
            self._to_merge -= merge
        except OSError as error:
            self._disconnect()
            raise IndexerAway(
                f"{self._mail / PLACE}: {error.strerror or error}; start Dovecot with its image's settings"
            ) from error

    def _send(self, due: Iterable[Folder], merge: Iterable[str]) -> None:
        # One for a folder merges those of all folders (fts_backend_flatcurve_optimize).
        lines = [f"OPTIMIZE\t0\t{mailbox}\tINBOX\n".encode() for mailbox in sorted(merge)]
        for mailbox, folder in due:
            self._tag += 1
            self._asked[str(self._tag)] = mailbox, folder
            lines.append(request(mailbox, folder, self._tag))
        if not lines:
            return
        if self._connection is None:
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._connection.settimeout(_CONNECT_SECONDS)
            self._connection.connect(str(self._mail / PLACE))
            lines.insert(0, HANDSHAKE)
        self._connection.settimeout(_CONNECT_SECONDS)
        self._connection.sendall(b"".join(lines))

    def _receive(self) -> None:
        """Take what was answered by now."""
        if self._connection is None:
            return
        self._connection.setblocking(False)
        try:
            while piece := self._connection.recv(65536):
                self._received += piece
            closed = True
        except BlockingIOError:
            closed = False
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            self._answer(line.decode("ascii", "replace").split("\t"))
        if closed:
            self._disconnect()

    def _answer(self, fields: list[str]) -> None:
        """``<tag> <state> …`` ends a request, or says how far it is."""
        if len(fields) < 2 or fields[1] not in (_FAILED, _COMPLETED) or fields[0] not in self._asked:
            return
        folder = self._asked.pop(fields[0])
        failures = self._failures.pop(folder, 0) + 1
        if fields[1] == _COMPLETED:
            return
        if failures < _FAILURES:
            # Dovecot may be stopping.
            self._failures[folder] = failures
            self.arrived(*folder)
        else:
            self._make_again(folder)

    def _make_again(self, folder: Folder) -> None:
        """Remove an index that cannot be written, once a day: if the disk is full, it is not the index."""
        mailbox, name = folder
        index, today = self._index(mailbox, name), self._now().date()
        if not index.is_dir() or self._removed.get(folder) == today:
            return
        self._log.warning("index removed", mailbox=mailbox, folder=name, note="it is made again")
        self._removed[folder] = today
        shutil.rmtree(index, ignore_errors=True)
        self.arrived(mailbox, name)

    def _index(self, mailbox: str, folder: str) -> Path:
        return Maildir(self._mail / mailbox / "Maildir").folder(folder) / _INDEX

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._received = None, b""
        unanswered, self._asked = self._asked.values(), {}
        for mailbox, folder in unanswered:
            self.arrived(mailbox, folder)


def _folders(mail: Path) -> Iterator[Folder]:
    for root in sorted(mail.glob("*/Maildir")):
        yield root.parent.name, INBOX
        for cur in sorted(root.glob(".*/cur")):
            yield root.parent.name, cur.parent.name[1:]


def request(mailbox: str, folder: str, tag: int) -> bytes:
    """The line that asks for *folder* of *mailbox*. Answers have the *tag*; the last word is for the log."""
    return f"APPEND\t{tag}\t{mailbox}\t{_escaped(imap_name(folder))}\t0\ttwinmail\n".encode()


def _escaped(text: str) -> str:
    """Dovecot's escapes for fields between tabs (src/lib/strescape.c)."""
    for octet, letter in (("\1", "1"), ("\0", "0"), ("\t", "t"), ("\r", "r"), ("\n", "n")):
        text = text.replace(octet, f"\1{letter}")
    return text
