"""The ledger and its journals: whichever is lost, the other rebuilds it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinmail.durable_file import NotWritten
from twinmail.journal import NAME as JOURNAL
from twinmail.journal import Journal, Record
from twinmail.ledger import Ledger, VolumeMissing
from twinmail.ledger_file import FILE, LedgerNewer
from twinmail.maildir import stem


class Disk:
    """A state folder and a mail folder, with ledgers opened on them."""

    def __init__(self, root: Path) -> None:
        self.state, self.mail = root / "state", root / "mail"
        self.state.mkdir()
        self.notes: list[str] = []
        self._open: list[Ledger] = []
        for mailbox in ("ann", "bob"):
            (self.mail / mailbox).mkdir(parents=True)

    def open(self) -> Ledger:
        self.close()
        self.notes.clear()
        self._open.append(Ledger(self.state, self.mail, self.notes.append))
        return self._open[-1]

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def lose_ledger(self) -> None:
        self.close()
        for path in self.state.glob(f"{FILE}*"):
            path.unlink()

    def journal(self, mailbox: str = "ann") -> Path:
        return self.mail / mailbox / JOURNAL


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.close()


def record(number: int, folder: str = "INBOX") -> Record:
    return Record(folder, f"179534{number:04}.{number:032x}.twinmail,S=1,W=1")


def key(number: int) -> str:
    return f"manifest/2026/11/22/10{number:04}.000000Z-a{number}.json"


def test_what_was_recorded_is_known_after_a_restart(disk: Disk) -> None:
    ledger = disk.open()
    ledger.record("ann", record(1))
    ledger.record("bob", record(1, "Junk"), finishes=key(1))
    ledger = disk.open()
    assert ledger.mailboxes(record(1).name) == {"ann", "bob"}
    assert ledger.mailboxes(stem(record(1).name)) == {"ann", "bob"}
    assert ledger.mailboxes(record(2).name) == frozenset()
    assert ledger.settled([key(1), key(2)]) == {key(1)}
    assert disk.notes == []


def test_entries_and_cursor(disk: Disk) -> None:
    ledger = disk.open()
    assert ledger.cursor is None
    ledger.finish(key(1))
    ledger.park(key(2), "not JSON")
    ledger.move_cursor(key(2))
    ledger = disk.open()
    assert ledger.cursor == key(2)
    assert ledger.parked() == {key(2): "not JSON"}
    assert ledger.settled(key(number) for number in range(2000)) == {key(1), key(2)}
    assert ledger.settled_after(key(1)) == 1
    ledger.finish(key(2))
    assert ledger.parked() == {}


def test_lost_ledger_is_rebuilt_from_the_journals(disk: Disk) -> None:
    ledger = disk.open()
    for number in range(3):
        ledger.record("ann", record(number))
    ledger.record("bob", record(7))
    disk.lose_ledger()
    ledger = disk.open()
    assert [ledger.mailboxes(record(number).name) for number in range(3)] == [{"ann"}] * 3
    assert ledger.mailboxes(record(7).name) == {"bob"}
    assert disk.notes == [
        f"{disk.journal('ann')}: 3 deliveries taken into the ledger",
        f"{disk.journal('bob')}: 1 deliveries taken into the ledger",
    ]
    disk.open()
    assert disk.notes == []


@pytest.mark.parametrize("damage", [b"not a database at all, but long enough" * 200, b""])
def test_damaged_ledger_is_put_aside_and_rebuilt(disk: Disk, damage: bytes) -> None:
    ledger = disk.open()
    ledger.record("ann", record(1))
    disk.close()
    for path in disk.state.glob(f"{FILE}-*"):
        path.unlink()
    (disk.state / FILE).write_bytes(damage)
    ledger = disk.open()
    assert ledger.mailboxes(record(1).name) == {"ann"}
    if damage:
        assert (disk.state / f"{FILE}.damaged").read_bytes() == damage
        assert "damaged (file is not a database); kept as ledger.sqlite.damaged" in disk.notes[0]


def test_page_overwritten_in_the_middle_is_noticed_and_rebuilt(disk: Disk) -> None:
    ledger = disk.open()
    for number in range(200):
        ledger.record("ann", record(number))
    disk.close()
    with (disk.state / FILE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 8192)
    ledger = disk.open()
    assert all(ledger.mailboxes(record(number).name) == {"ann"} for number in range(200))
    assert "damaged (" in disk.notes[0]


def test_damage_while_running_is_transient_and_repaired_by_the_next_call(disk: Disk) -> None:
    ledger = disk.open()
    ledger.record("ann", record(1))
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    with pytest.raises(NotWritten, match="malformed"), ledger._errors():
        raise error
    ledger.record("ann", record(2))
    assert ledger.mailboxes(record(1).name) == {"ann"}


def test_crash_between_journal_and_ledger_is_made_good(disk: Disk) -> None:
    class Crash(BaseException):
        pass

    def crash(step: str) -> None:
        assert step == "journaled"
        raise Crash

    ledger = disk.open()
    ledger.record("ann", record(1))
    with pytest.raises(Crash):
        ledger.record("ann", record(2), checkpoint=crash)
    assert ledger.mailboxes(record(2).name) == frozenset()
    ledger = disk.open()
    assert ledger.mailboxes(record(2).name) == {"ann"}


def test_lost_journal_is_written_again_from_the_ledger(disk: Disk) -> None:
    ledger = disk.open()
    for number in range(3):
        ledger.record("ann", record(number))
    disk.close()
    disk.journal().unlink()
    disk.open()
    assert "had 0 octets; written again from the ledger" in disk.notes[0]
    disk.lose_ledger()
    ledger = disk.open()
    assert all(ledger.mailboxes(record(number).name) == {"ann"} for number in range(3))


@pytest.mark.parametrize("cut", range(1, 75, 7))
def test_torn_last_line_costs_nothing(disk: Disk, cut: int) -> None:
    ledger = disk.open()
    ledger.record("ann", record(1))
    ledger.record("ann", record(2))
    disk.close()
    disk.journal().write_bytes(disk.journal().read_bytes()[:-cut])
    disk.open().record("ann", record(3))
    disk.lose_ledger()
    ledger = disk.open()
    assert all(ledger.mailboxes(record(number).name) == {"ann"} for number in (1, 2, 3))


def test_damaged_line_costs_that_line_when_the_ledger_is_lost_too(disk: Disk) -> None:
    ledger = disk.open()
    for number in range(3):
        ledger.record("ann", record(number))
    disk.lose_ledger()
    lines = disk.journal().read_bytes().splitlines(keepends=True)
    disk.journal().write_bytes(lines[0] + lines[1].replace(b"twinmail", b"twinmall") + lines[2])
    ledger = disk.open()
    assert [bool(ledger.mailboxes(record(number).name)) for number in range(3)] == [True, False, True]
    assert "1 damaged lines left out; their messages may come back" in disk.notes[1]


def test_torn_line_does_not_take_the_next_record_with_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)
    journal.append(record(1))
    with journal.path.open("ab") as file:
        file.write(record(2).to_bytes()[:20])
    octets = journal.append(record(3))
    lines = list(journal.lines(0))
    assert [line.record for line in lines] == [record(1), None, record(3)]
    assert lines[-1].end == octets == journal.octets()


def test_unmounted_mail_volume_is_not_taken_for_an_empty_one(disk: Disk) -> None:
    disk.open().record("ann", record(1))
    disk.close()
    disk.journal().unlink()
    (disk.mail / "ann").rmdir()
    with pytest.raises(
        VolumeMissing, match=r"none of the 1 mailboxes that got mail is here; mount the volume"
    ):
        disk.open()


def test_mailbox_that_is_gone_does_not_stop_the_others(disk: Disk) -> None:
    ledger = disk.open()
    ledger.record("ann", record(1))
    ledger.record("bob", record(2))
    disk.close()
    disk.journal().unlink()
    (disk.mail / "ann").rmdir()
    ledger = disk.open()
    assert disk.notes == [f"{disk.mail / 'ann'}: the mailbox is gone, with what was delivered to it"]
    assert ledger.mailboxes(record(1).name) == {"ann"}


def test_messages_found_in_a_maildir_are_adopted_once(disk: Disk) -> None:
    ledger = disk.open()
    ledger.record("ann", record(1))
    found = {stem(one.name): one for one in (record(1), record(2), record(3, "Junk"))}
    assert ledger.adopt("ann", found) == 2
    assert ledger.adopt("ann", found) == 0
    disk.lose_ledger()
    ledger = disk.open()
    assert ledger.mailboxes(record(3).name) == {"ann"}


def test_newer_ledger_is_refused(disk: Disk) -> None:
    disk.open()
    disk.close()
    with sqlite3.connect(disk.state / FILE) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(LedgerNewer, match=r"ledger\.sqlite: expected schema 1, got 9; run a newer twinmail"):
        disk.open()


def test_no_folder_for_the_ledger_is_transient(tmp_path: Path) -> None:
    with pytest.raises(NotWritten, match="unable to open database file"):
        Ledger(tmp_path / "absent", tmp_path)
