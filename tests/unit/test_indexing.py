"""What the indexer is told: names as IMAP knows them, everything once, and again what it did not answer."""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.log_simulator import until
from twinmail.folder_name import imap_name
from twinmail.sync.indexing import PLACE, IndexerAway, IndexingChore, request
from twinmail.sync.log import Log


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("INBOX", "INBOX"),
        ("Junk", "Junk"),
        ("Archive.2026.Q1", "Archive/2026/Q1"),
        ("Verein e%2eV%2e", "Verein e.V."),
        ("Vertr&AOQ-ge", "Verträge"),
        ("Tom &- Jerry", "Tom & Jerry"),
        ("&ZeVnLIqe-.&U,BTFw-", "日本語/台北"),
        ("100%25", "100%"),
        ("&2D3eAA-", "😀"),
    ],
)
def test_folder_as_imap_names_it(folder: str, name: str) -> None:
    assert imap_name(folder) == name


def test_request_is_what_dovecot_says_itself() -> None:
    assert request("ann", "Vertr&AOQ-ge.Alt", 7) == "APPEND\t7\tann\tVerträge/Alt\t0\ttwinmail\n".encode()
    assert request("ann", "a%09b%0ac", 1) == b"APPEND\t1\tann\ta\x01tb\x01nc\t0\ttwinmail\n"


class Indexer:
    """Listens as Dovecot's indexer does."""

    def __init__(self, mail: Path) -> None:
        (mail / PLACE).parent.mkdir(exist_ok=True)
        (mail / PLACE).unlink(missing_ok=True)
        self.lines: list[str] = []
        self.answers = True
        self.failures: dict[tuple[str, str], int] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(mail / PLACE))
        self._listener.listen()
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(b"VERSION\tindexer-server\t1\t0\n")
        with suppress(OSError):
            for line in connection.makefile("r", encoding="utf-8"):
                self.lines.append(line.rstrip("\n"))
                if line.startswith("APPEND"):
                    _, tag, *folder = line.split("\t")
                    left = self.failures.get((folder[0], folder[1]), 0)
                    self.failures[folder[0], folder[1]] = max(0, left - 1)
                    state = -1 if left else 1
                    end = f"{tag}\t0\t1\t2\n{tag}\t{state}\t2\t2\n" if self.answers else ""
                    connection.sendall(f"{tag}\tOK\n{end}".encode())

    def asked(self) -> list[tuple[str, str]]:
        rows = [line.split("\t") for line in self.lines if line.startswith("APPEND")]
        return [(row[2], row[3]) for row in rows]

    def stop(self) -> None:
        for one in (self._listener, *self._connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    for folder in ("ann/Maildir/cur", "ann/Maildir/.Junk/cur", "bob/Maildir/cur"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def indexer(mail: Path) -> Iterator[Indexer]:
    indexer = Indexer(mail)
    yield indexer
    indexer.stop()


@pytest.fixture
def clock() -> list[datetime]:
    return [datetime(2026, 11, 23, 12, tzinfo=UTC)]


@pytest.fixture
def chore(mail: Path, clock: list[datetime]) -> IndexingChore:
    return IndexingChore(mail, Log(io.StringIO()), lambda: clock[0])


ALL = [("ann", "INBOX"), ("ann", "Junk"), ("bob", "INBOX")]


def test_all_folders_at_the_start_and_once_a_day(
    chore: IndexingChore, indexer: Indexer, clock: list[datetime]
) -> None:
    chore.turn()
    until(lambda: indexer.asked() == ALL, "all folders")
    assert indexer.lines[0] == "VERSION\tindexer-client\t1\t0"
    chore.turn()
    clock[0] += timedelta(days=1)
    chore.turn()
    until(lambda: indexer.asked() == ALL * 2, "all folders again")


def test_a_burst_is_one_request(chore: IndexingChore, indexer: Indexer) -> None:
    chore.turn()
    for _ in range(100):
        chore.arrived("ann", "INBOX")
    chore.turn()
    chore.turn()
    until(lambda: indexer.asked() == [*ALL, ("ann", "INBOX")], "one more")


def test_dovecot_away_is_said_and_asked_again_when_it_is_back(chore: IndexingChore, mail: Path) -> None:
    for _ in range(2):
        with pytest.raises(IndexerAway, match=r"indexer: .*; start Dovecot"):
            chore.turn()
    indexer = Indexer(mail)
    chore.turn()
    until(lambda: sorted(indexer.asked()) == ALL, "all folders")
    indexer.stop()


def test_unanswered_is_asked_again(chore: IndexingChore, indexer: Indexer, mail: Path) -> None:
    indexer.answers = False
    chore.turn()
    until(lambda: indexer.asked() == ALL, "all folders")
    indexer.stop()
    again = Indexer(mail)

    def asked_again() -> bool:
        chore.turn()
        return sorted(again.asked()) == ALL

    until(asked_again, "all folders of the next one")
    again.stop()


def test_index_that_cannot_be_written_is_removed_once_a_day(
    chore: IndexingChore, indexer: Indexer, mail: Path, clock: list[datetime]
) -> None:
    index, kept = (
        mail / "ann" / "Maildir" / ".Junk" / "fts-flatcurve",
        mail / "bob" / "Maildir" / "fts-flatcurve",
    )
    kept.mkdir()
    chore.turn()
    until(lambda: len(indexer.lines) == 4, "all folders")
    chore.turn()

    def fail(times: int) -> None:
        """Have Junk fail so often in a row, and then succeed."""
        (index / "current.1").mkdir(parents=True, exist_ok=True)
        indexer.failures["ann", "Junk"] = times

        def over() -> bool:
            chore.arrived("ann", "Junk")
            chore.turn()
            return indexer.failures["ann", "Junk"] == 0

        until(over, f"{times} failures")
        until(lambda: chore.turn() or not chore._asked, "a success")

    # Once or twice may be Dovecot, which is stopping.
    for times in (1, 2, 2):
        fail(times)
    assert index.exists()
    fail(3)
    assert not index.exists()
    # A full disk is not the index's fault: not again and again.
    fail(9)
    assert index.exists()
    clock[0] += timedelta(days=1)
    fail(3)
    assert not index.exists()
    assert kept.exists()


def test_indexes_of_many_parts_are_merged_when_a_day_begins(
    chore: IndexingChore, indexer: Indexer, mail: Path, clock: list[datetime]
) -> None:
    for mailbox, parts in (("ann", 4), ("bob", 3)):
        for number in range(parts):
            (mail / mailbox / "Maildir" / "fts-flatcurve" / f"index.{number}").mkdir(parents=True)
    (mail / "bob" / "Maildir" / "fts-flatcurve" / "flatcurve-lock").touch()

    def merged() -> list[str]:
        return [line for line in indexer.lines if line.startswith("OPTIMIZE")]

    chore.turn()
    clock[0] += timedelta(hours=11)
    chore.turn()
    until(lambda: indexer.asked() == ALL, "all folders")
    assert merged() == []
    clock[0] += timedelta(hours=1)
    chore.turn()
    until(lambda: len(indexer.asked()) == 6, "all folders again")
    # Only then: with a request of the other kind, the indexer would forget one of them.
    until(lambda: chore.turn() or merged(), "merging")
    assert merged() == ["OPTIMIZE\t0\tann\tINBOX"]
    chore.arrived("ann", "INBOX")
    chore.turn()
    until(lambda: len(indexer.asked()) == 7, "one more")
    assert len(merged()) == 1
