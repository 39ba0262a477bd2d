"""Indexing: tells Dovecot's indexer which folders got mail, so that the next search finds it in the index.

Dovecot indexes by itself what clients store; what is linked into ``new/`` it would only add before the next
search, and whoever searches would wait for that. So this says what Dovecot says itself after it stored a
message (``fts_queue_index`` in dovecot 2.4.1, src/plugins/fts/fts-storage.c). Losing it costs time, no mail.
"""

import base64
import re
import socket
import threading
from pathlib import Path

from twinmail.errors import TransientError
from twinmail.manifest import INBOX

# Seen from the folder of the mailboxes; conf/fts.conf of the Dovecot image listens there.
PLACE = Path(".server") / "indexer"

_HANDSHAKE = b"VERSION\tindexer-client\t1\t0\n"
_SECONDS = 5.0
_ENCODED = re.compile(r"&([A-Za-z0-9+,]*)-")
_ESCAPED = re.compile(r"%([0-9a-f]{2})")


class IndexerAway(TransientError):
    """Dovecot does not take the request; the next search adds what is missing."""


class IndexingChore:
    """Asks the indexer of the mailboxes in *mail* for the folders that got mail since the last turn."""

    name = "indexing"
    # Long enough to make one request of a burst, short for a user who looks for what just came.
    seconds = 1.0
    prefix = ""

    def __init__(self, mail: Path) -> None:
        self._socket = mail / PLACE
        self._lock = threading.Lock()
        self._due: dict[tuple[str, str], None] = {}

    def arrived(self, mailbox: str, folder: str) -> None:
        """Mail arrived in *folder* of *mailbox*; any thread may say so."""
        with self._lock:
            self._due[mailbox, folder] = None

    def turn(self) -> None:
        """See `Chore`.

        Raises:
            IndexerAway: said at the next turn again.
        """
        with self._lock:
            due, self._due = self._due, {}
        if not due:
            return
        lines = [_HANDSHAKE, *(request(mailbox, folder) for mailbox, folder in due)]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_SECONDS)
                connection.connect(str(self._socket))
                connection.sendall(b"".join(lines))
                _read_answers(connection, len(due))
        except OSError as error:
            with self._lock:
                self._due.update(due)
            raise IndexerAway(
                f"{self._socket}: {error.strerror or error}; start Dovecot with the image's conf/fts.conf"
            ) from error


def request(mailbox: str, folder: str) -> bytes:
    """The line that asks for the Maildir *folder* (as `twinmail.maildir.Maildir` names it) of *mailbox*.

    Tag 0: nobody waits for the end. The last word is for Dovecot's log.
    """
    return f"APPEND\t0\t{mailbox}\t{_escaped(imap_name(folder))}\t0\ttwinmail\n".encode()


def imap_name(folder: str) -> str:
    """The name under which IMAP knows the Maildir++ *folder*, in Unicode.

    ``.`` separates levels there, a dot in a name is ``%2e`` (mailbox_list_storage_escape_char), and what is
    not ASCII is in modified UTF-7 (RFC 3501 section 5.1.3).
    """
    if folder == INBOX:
        return folder
    levels = _ENCODED.sub(_decoded, folder.replace(".", "/"))
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), levels)


def _decoded(found: re.Match[str]) -> str:
    text = found[1]
    if not text:
        return "&"
    padding = "=" * (-len(text) % 4)
    return base64.b64decode(text.replace(",", "/") + padding).decode("utf-16-be", "replace")


def _escaped(text: str) -> str:
    """Dovecot's escapes for fields between tabs (src/lib/strescape.c)."""
    for octet, letter in (("\1", "1"), ("\0", "0"), ("\t", "t"), ("\r", "r"), ("\n", "n")):
        text = text.replace(octet, f"\1{letter}")
    return text


def _read_answers(connection: socket.socket, count: int) -> None:
    """Its own handshake and one line a request: then it has them."""
    data = b""
    while data.count(b"\n") < count + 1:
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"closed after {data!r}")
        data += piece
