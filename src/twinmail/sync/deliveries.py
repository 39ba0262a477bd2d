"""What this server knows of its deliveries, for `./inv audit`; and mending what it asks for.

Everything is told as it is met, the ledger and the files apart, so that memory does not grow with them. Who
asks compares them. A missing file is no discrepancy: its user may have deleted it.
"""

import hashlib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as Late
from contextlib import contextmanager
from pathlib import Path

from twinmail import copies, versioned_json
from twinmail.delivery_lines import KEYS, VERSION, Aside, Filed, Line, Recorded, Waits, encode, failure
from twinmail.errors import PermanentError, TransientError
from twinmail.journal import Record
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir, stem
from twinmail.manifest import Entry
from twinmail.sync.bulk import MESSAGE_OCTETS
from twinmail.sync.carrier import Carrier
from twinmail.sync.plan import Park, decode, message_stem
from twinmail.sync.source import Source, read_all

ORIGIN = "audit"
SECONDS = 3.0
"""How long mending is waited for; it goes on after that."""

_CHUNK = 1 << 20
_SIZE = re.compile(r",S=([0-9]+)")


class Refused(PermanentError):
    """A request is none, or another one is being answered."""


class Deliveries:
    """Tells and mends the deliveries to the Maildirs under *mail*; one at a time."""

    def __init__(self, source: Source, carrier: Carrier, mail: Path) -> None:
        self._source = source
        self._carrier = carrier
        self._ledger: Ledger = carrier.ledger
        self._mail = mail
        self._busy = threading.Lock()

    @contextmanager
    def reading(self, deep: bool) -> Iterator[Iterator[bytes]]:
        """The lines (`twinmail.delivery_lines`); with *deep* each file is read, for its digest.

        Raises:
            Refused: somebody else reads them.
        """
        if not self._busy.acquire(blocking=False):
            raise Refused("another audit reads the deliveries; wait for its end")
        try:
            yield self._stream(deep)
        finally:
            self._busy.release()

    def _stream(self, deep: bool) -> Iterator[bytes]:
        try:
            yield from encode(self._lines(deep))
        except TransientError as error:
            yield failure(str(error))

    def _lines(self, deep: bool) -> Iterator[Line]:
        # Files first: a message is linked before it is recorded.
        for path in sorted(self._mail.glob("*/Maildir")):
            yield from _files(path.parent.name, Maildir(path), deep)
        for mailbox in self._ledger.known_mailboxes():
            after = ""
            while page := self._ledger.stems(mailbox, after):
                for after in page:
                    yield Recorded(mailbox, after)
        for one in self._ledger.waiting():
            yield Waits(one.mailbox, one.key)
        for key, reason in self._ledger.parked().items():
            yield Aside(key, reason)

    def mend(self, request: bytes) -> Mapping[str, str]:
        """Take into the ledger, and deliver, what is missing of the entries that *request* names.

        What the ledger knows is left alone, whatever its user did with it. Repeating it changes nothing.

        Returns:
            By key what came of it: ``finished``, or why not.

        Raises:
            Refused: *request* is none.
            SourceUnavailable, NotWritten: transient.
        """
        keys = _keys(request)
        read = read_all(self._source, keys, MESSAGE_OCTETS)
        decoded = {key: decode(key, read[key]) for key in keys if key in read}
        told = {key: one.reason for key, one in decoded.items() if isinstance(one, Park)}
        told |= {key: "the log has no such entry" for key in keys if key not in read}
        entries = {key: one for key, one in decoded.items() if isinstance(one, Entry)}
        self._adopt(list(entries.values()))
        known = self._ledger.delivered_of([message_stem(one) for one in entries.values()])
        missing = [
            key
            for key, one in entries.items()
            if {to.mailbox for to in one.deliveries} - known.get(message_stem(one), frozenset())
        ]
        self._ledger.forget({}, missing)
        carried = {key: self._carrier.carry(key, ORIGIN) for key in missing}
        deadline = time.monotonic() + SECONDS
        for key in entries:
            try:
                future = carried.get(key)
                told[key] = (
                    future.result(max(0.0, deadline - time.monotonic())).value if future else "finished"
                )
            except Late:
                told[key] = "still being carried; ask again"
        return told

    def _adopt(self, entries: Sequence[Entry]) -> None:
        """Take into the ledger what is in a Maildir and should be in it."""
        wanted: dict[str, set[str]] = {}
        for one in entries:
            for to in one.deliveries:
                wanted.setdefault(to.mailbox, set()).add(message_stem(one))
        for mailbox, stems in wanted.items():
            maildir = Maildir(self._mail / mailbox / "Maildir")
            found: dict[str, Record] = {}
            for folder, name, _ in maildir.files():
                # Of several copies some may still be missing: the next start knows what to do about it.
                if stem(name) in stems and not copies.is_noted(maildir, name):
                    found[stem(name)] = Record(folder, name)
            self._ledger.adopt(mailbox, found)


def _files(mailbox: str, maildir: Maildir, deep: bool) -> Iterator[Filed]:
    folders: dict[str, int] = {}
    for folder, name, path in maildir.files():
        number = folders.setdefault(folder, len(folders))
        match = _SIZE.search(name)
        try:
            octets = path.stat().st_size
            sha256 = _digest(path) if deep else ""
        except OSError:
            # Moved or deleted by its user meanwhile.
            continue
        yield Filed(mailbox, stem(name), number, octets, int(match[1]) if match else octets, sha256)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _keys(request: bytes) -> list[str]:
    try:
        keys = versioned_json.read(request, VERSION)["keys"]
        if not isinstance(keys, list) or not all(isinstance(one, str) for one in keys):
            raise ValueError(f"keys: expected a list of strings, got {keys!r:.80}")
        if len(keys) > KEYS:
            raise ValueError(f"keys: expected up to {KEYS}, got {len(keys)}")
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"request to mend: {error}") from error
    return keys
