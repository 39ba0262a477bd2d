"""Another IMAP server as a source: all folders, or some, of one account; nothing there is changed.

Folders are opened read-only, and messages are fetched without being marked as read. Sizes are asked before
anything is fetched, so that memory holds a few messages at most.
"""

import imaplib
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import imapclient
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError

from twinmail.importing import moment
from twinmail.importing.source import Folder, Item, Known, Mail, Passed, SourceAway, SourceBroken, Trouble
from twinmail.manifest import FLAGS

_ANSWER = TypeVar("_ANSWER")

PORT = 993
_SECONDS = 120.0
# Asked for together: that many messages, as long as they are no more octets.
_BATCH = 250
_BATCH_OCTETS = 8 << 20
_SURVEY = 500
_ATTEMPTS = 5
_ATTEMPTS_AT_ONE = 3
_PAUSE = 2.0
_ROLES = re.compile(rb"\\(All|Archive|Drafts|Flagged|Important|Junk|Sent|Trash)", re.IGNORECASE)
_UNSELECTABLE = (b"\\noselect", b"\\nonexistent")
_AWAY = (OSError, IMAPClientAbortError)


@dataclass(frozen=True)
class Login:
    """Where and as whom to log in.

    Attributes:
        tls: trusts the server's certificate and checks its name; None for no TLS, on this machine only.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)

    def __str__(self) -> str:
        return f"{self.user} at {self.host}:{self.port}"


class ImapAccount:
    """The account of *login* as a `Source`; no message may have more than *limit* octets.

    *only* are the folders to read, as the server names them; none for all.
    """

    def __init__(
        self,
        login: Login,
        limit: int,
        only: Sequence[str] = (),
        wait: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = f"imap://{login.user}@{login.host}:{login.port}"
        self._login = login
        self._limit = limit
        self._only = tuple(only)
        self._wait = wait
        self._now = now
        self._client: Any = None
        self._was_there = False
        self._asked: tuple[int, ...] = ()

    def close(self) -> None:
        """Log out."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(OSError, IMAPClientError):
                client.logout()

    def folders(self) -> Sequence[Folder]:
        """See `Source`."""
        found = self._again(self._list)
        unknown = [one for one in self._only if one not in {folder.key for folder in found}]
        if unknown:
            known = ", ".join(folder.key for folder in found)
            raise SourceBroken(f"{self._login}: no folder {unknown[0]!r}; it has: {known}")
        return [one for one in found if not self._only or one.key in self._only]

    def read(self, folder: Folder, known: Known) -> Iterator[Item]:
        """See `Source`. After a lost connection it goes on where it was.

        Some servers end the connection when a message of theirs is damaged. So what was asked for then is
        asked for again one by one, and a message that ends it again and again is left out.
        """
        after, failures, careful = 0, 0, 0
        while True:
            self._asked = ()
            try:
                for uid, item in self._read(folder, known, after, careful):
                    after, failures = uid, 0
                    yield item
                return
            except _AWAY as error:
                failures += 1
                asked = self._asked
                careful = max([careful, *asked])
                if len(asked) == 1 and failures >= _ATTEMPTS_AT_ONE:
                    yield Trouble(f"{folder}: UID {asked[0]}", f"the server ends the connection: {error}")
                    after, failures = asked[0], 0
                    self._drop()
                else:
                    self._lost(error, failures)

    def survey(self, folder: Folder) -> Sequence[tuple[str, int]]:
        """See `Source`; sizes only, of some hundred messages at a time."""

        def ask() -> list[tuple[str, int]]:
            client, validity = self._select(folder)
            return [
                (f"{validity}:{uid}", size)
                for uids in _parted(sorted(client.search("ALL")), _SURVEY)
                for uid, (size, deleted) in self._sizes(client, uids).items()
                if not deleted
            ]

        return self._again(ask)

    def _read(self, folder: Folder, known: Known, after: int, careful: int) -> Iterator[tuple[int, Item]]:
        """The messages with UIDs above *after*, those up to *careful* fetched one by one."""
        client, validity = self._select(folder)
        for uids in _parted([one for one in sorted(client.search("ALL")) if one > after], _SURVEY):
            sizes = self._sizes(client, uids)
            batch: list[int] = []
            octets = 0
            for uid in uids:
                place, mark = f"{folder}: UID {uid}", f"{validity}:{uid}"
                if uid not in sizes:
                    continue  # expunged meanwhile
                size, deleted = sizes[uid]
                passed: Item | None = None
                if deleted:
                    passed = Passed(place)
                elif known(folder, mark):
                    passed = Passed(place, mark)
                elif size > self._limit:
                    passed = Trouble(place, f"expected at most {self._limit} octets, got {size}")
                if passed is not None:
                    # In order, so that what comes after a lost connection is what was not given yet.
                    yield from self._fetch(client, folder, validity, batch)
                    batch, octets = [], 0
                    yield uid, passed
                    continue
                most = 1 if batch and batch[0] <= careful else _BATCH
                if batch and (octets + size > _BATCH_OCTETS or len(batch) >= most):
                    yield from self._fetch(client, folder, validity, batch)
                    batch, octets = [], 0
                batch.append(uid)
                octets += size
            yield from self._fetch(client, folder, validity, batch)

    def _fetch(
        self, client: Any, folder: Folder, validity: int, uids: Sequence[int]
    ) -> Iterator[tuple[int, Item]]:
        if not uids:
            return
        self._asked = tuple(uids)
        try:
            found = client.fetch(uids, ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"])
            self._asked = ()
        except _AWAY:
            raise
        except (IMAPClientError, ValueError) as error:
            # One of them: found by asking for each alone.
            if len(uids) == 1:
                yield uids[0], Trouble(f"{folder}: UID {uids[0]}", f"the server says: {error}")
                return
            for uid in uids:
                yield from self._fetch(client, folder, validity, [uid])
            return
        for uid in uids:
            place = f"{folder}: UID {uid}"
            answer = found.pop(uid, None)
            if answer is None:
                continue  # expunged meanwhile
            yield uid, self._mail(place, f"{validity}:{uid}", answer)

    def _mail(self, place: str, mark: str, answer: Any) -> Item:
        message = answer.get(b"BODY[]")
        if not message:
            return Trouble(place, "empty" if message == b"" else "the server gave no message")
        if len(message) > self._limit:
            return Trouble(place, f"expected at most {self._limit} octets, got {len(message)}")
        words = {one.decode("utf-8", "replace") for one in answer.get(b"FLAGS", ())}
        known = {one.lower(): one for one in FLAGS}
        date = answer.get(b"INTERNALDATE")
        return Mail(
            place,
            message,
            moment.first_possible((date, moment.of_header(message)), self._now()),
            frozenset(known[one.lower()] for one in words if one.lower() in known),
            frozenset(one for one in words if not one.startswith("\\")),
            mark,
        )

    @staticmethod
    def _sizes(client: Any, uids: Sequence[int]) -> dict[int, tuple[int, bool]]:
        """Size, and whether it is marked as deleted, of those of *uids* that are there."""
        found, wanted = client.fetch(uids, ["FLAGS", "RFC822.SIZE"]), set(uids)
        return {
            uid: (
                int(answer.get(b"RFC822.SIZE", 0)),
                b"\\deleted" in {one.lower() for one in answer.get(b"FLAGS", ())},
            )
            for uid, answer in sorted(found.items())
            if uid in wanted
        }

    def _select(self, folder: Folder) -> tuple[Any, int]:
        client = self._connected()
        try:
            told = client.select_folder(folder.key, readonly=True)
        except _AWAY:
            raise
        except IMAPClientError as error:
            raise SourceBroken(f"{self._login}: {folder}: cannot be opened: {error}") from error
        return client, int(told.get(b"UIDVALIDITY", 0))

    def _list(self) -> list[Folder]:
        client = self._connected()
        prefix, foreign = self._namespaces(client)
        found = []
        for flags, delimiter, name in client.list_folders():
            lowered = {one.lower() for one in flags}
            if lowered & set(_UNSELECTABLE):
                continue
            path = str(name)
            if any(path.startswith(one) for one in foreign) and path not in self._only:
                continue
            separator = (delimiter or b"").decode("ascii", "replace")
            inner = path[len(prefix) :] if prefix and path.startswith(prefix) and path != prefix else path
            levels = tuple(inner.split(separator)) if separator else (inner,)
            role = next((match[1].decode().lower() for one in flags if (match := _ROLES.fullmatch(one))), "")
            told = self._status(client, path)
            found.append(Folder(levels, role, told.get(b"MESSAGES"), told.get(b"SIZE"), path))
        return sorted(found, key=lambda one: (one.levels[0].upper() != "INBOX", one.levels))

    @staticmethod
    def _namespaces(client: Any) -> tuple[str, list[str]]:
        """What is before all own folders but INBOX (``INBOX.`` on servers of the Courier and Cyrus kind).

        And what is before folders of other users, and shared ones (RFC 2342), which are not this account's.
        """
        if not client.has_capability("NAMESPACE"):
            return "", []
        try:
            told = client.namespace()
        except IMAPClientAbortError:
            raise
        except (IMAPClientError, ValueError):
            return "", []
        own = [str(prefix) for prefix, _ in told.personal or ()]
        others = [str(prefix) for one in (told.other, told.shared) for prefix, _ in one or ()]
        return own[0] if own else "", [one for one in others if one and one not in own]

    @staticmethod
    def _status(client: Any, path: str) -> dict[bytes, int]:
        items = ["MESSAGES", *(["SIZE"] if client.has_capability("STATUS=SIZE") else [])]
        try:
            return dict(client.folder_status(path, items))
        except IMAPClientAbortError:
            raise
        except IMAPClientError:
            # Told again, as an error, when it is opened.
            return {}

    def _again(self, ask: Callable[[], _ANSWER]) -> _ANSWER:
        failures = 0
        while True:
            try:
                return ask()
            except _AWAY as error:
                failures += 1
                self._lost(error, failures)

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(OSError, IMAPClientError):
                client.shutdown()

    def _lost(self, error: Exception, failures: int) -> None:
        self._drop()
        problem = f"{self._login}: {str(error) or type(error).__name__}"
        if not self._was_there:
            raise SourceBroken(f"{problem}; check host and port (IMAP inside TLS, usually {PORT})") from error
        if failures >= _ATTEMPTS:
            raise SourceAway(
                f"{problem}; {failures} times in a row; what was imported stays: run the same command again"
            ) from error
        self._wait(_PAUSE * failures)

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Any:
        login = self._login
        try:
            client = imapclient.IMAPClient(
                login.host,
                login.port,
                ssl=login.tls is not None,
                ssl_context=login.tls,
                timeout=_SECONDS,
            )
        except ssl.SSLCertVerificationError as error:
            raise SourceBroken(
                f"{login.host}:{login.port}: the certificate is not trusted: {error.verify_message}"
            ) from error
        client.normalise_times = False
        try:
            client.login(login.user, login.password)
        except LoginError as error:
            client.shutdown()
            # RFC 5530: the server cannot say now whether the password is right.
            if "[UNAVAILABLE]" in str(error):
                raise imaplib.IMAP4.abort(str(error)) from error
            raise SourceBroken(f"{login}: login refused: {error}") from error
        self._was_there = True
        return client


def _parted(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
