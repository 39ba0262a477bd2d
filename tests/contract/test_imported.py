"""The syncer with what was imported: folders, flags and dates, killed between any two steps."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.localstack_process import LocalStackProcess
from tests.log_simulator import entry_of
from tests.syncer_process import Log, SyncerProcess
from twinmail import keyword_file
from twinmail.manifest import Delivery, Entry
from twinmail.sync.steps import STEPS

ARRIVED = datetime(2009, 2, 13, 23, 31, 30, tzinfo=UTC)
FOLDER = "Projekte/Übersicht e.V."
ON_DISK = ".Projekte.&ANw-bersicht e%2eV%2e"
BODY = b"From: a@example.com\r\nSubject: old\r\n\r\nlong ago\r\n"


@pytest.fixture
def syncer(localstack: LocalStackProcess, tmp_path: Path) -> Iterator[SyncerProcess]:
    syncer = SyncerProcess(Log(localstack), tmp_path / "server")
    yield syncer
    syncer.stop()


def imported(number: int, delivery: Delivery) -> Entry:
    entry = entry_of(f"import-{number}", BODY, ARRIVED)
    return replace(entry, deliveries=(delivery,), mail_from="", rcpt_to=(), imported=True)


def message(syncer: SyncerProcess, folder: str) -> Path:
    (path,) = (path for path in syncer.files() if path.parent.parent.name == folder)
    return path


@pytest.mark.parametrize("step", STEPS)
def test_imported_message_is_placed_once_with_flags_and_date(syncer: SyncerProcess, step: str) -> None:
    flags = ("\\Answered", "\\Flagged", "\\Seen")
    syncer.log.commit(imported(1, Delivery("ann", FOLDER, flags, ("$label1", "todo"))), BODY)
    syncer.log.commit(imported(2, Delivery("ann", "INBOX")), BODY)
    syncer.start("--crash-at", step)
    assert syncer.wait() == -9
    syncer.start()
    syncer.until_files(2)
    syncer.until_settled()
    old, unread = message(syncer, ON_DISK), message(syncer, "Maildir")
    assert len(syncer.files()) == 2
    assert old.read_bytes() == unread.read_bytes() == BODY, "nothing is written above an imported message"
    assert old.stat().st_mtime == unread.stat().st_mtime == ARRIVED.timestamp()
    name, _, info = old.name.partition(":2,")
    assert (
        old.parent.name == "cur"
        and name.startswith("1234567890.")
        and name.endswith(f"S={len(BODY)},W={len(BODY)}")
    )
    letters = keyword_file.from_bytes((old.parent.parent / keyword_file.NAME).read_bytes())
    assert "".join(sorted(set(info) - set(letters))) == "FRS"
    assert {letters[one] for one in info if one in letters} == {"$label1", "todo"}
    assert unread.parent.name == "new" and ":" not in unread.name
    subscribed = (old.parents[2] / "subscriptions").read_bytes()
    assert b"\nProjekte\t&ANw-bersicht e%2eV%2e\n" in subscribed
