"""Several copies of a message: all or none."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinmail import copies
from twinmail.copies import FOLDER, Note, Target
from twinmail.maildir import Maildir

ARRIVED = datetime(2026, 11, 22, 10, 11, 12, tzinfo=UTC)
STEM = f"1795342272.{'a' * 32}.twinmail"
NAME = f"{STEM},S=3,W=3"
TARGETS = (Target("INBOX", ""), Target("A", ":2,F"), Target("B", ":2,S"))


@pytest.fixture
def maildir(tmp_path: Path) -> Iterator[Maildir]:
    yield Maildir(tmp_path / "ann" / "Maildir")


def deliver(maildir: Maildir, count: int) -> None:
    """Make the first *count* copies, as a process that is killed then."""
    staged = maildir.stage(STEM, [b"abc"], ARRIVED)
    copies.begin(maildir, Note(NAME, TARGETS))
    for one in TARGETS[:count]:
        maildir.link(staged, one.folder, NAME, one.info)
    maildir.discard(staged.path)


def there(maildir: Maildir) -> set[str]:
    found = maildir.root.rglob(f"{STEM}*")
    return {str(path.relative_to(maildir.root)) for path in found if path.parent.name != "tmp"}


ALL = {f"new/{NAME}", f".A/cur/{NAME}:2,F", f".B/cur/{NAME}:2,S"}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_missing_copies_are_made(maildir: Maildir, count: int) -> None:
    deliver(maildir, count)
    assert copies.complete(maildir) == 3 - count
    assert there(maildir) == ALL
    assert copies.complete(maildir) == 0 and list((maildir.root.parent / FOLDER).iterdir()) == []


def test_before_the_first_copy_there_is_nothing_to_complete(maildir: Maildir) -> None:
    deliver(maildir, 0)
    assert copies.complete(maildir) == 0 and there(maildir) == set()


def test_what_was_read_meanwhile_is_not_made_again(maildir: Maildir) -> None:
    deliver(maildir, 2)
    (maildir.root / "new" / NAME).rename(maildir.root / "cur" / f"{NAME}:2,S")
    (maildir.root / ".A" / "cur" / f"{NAME}:2,F").rename(maildir.root / ".A" / "cur" / f"{NAME}:2,FS")
    assert copies.complete(maildir) == 1
    assert there(maildir) == {f"cur/{NAME}:2,S", f".A/cur/{NAME}:2,FS", f".B/cur/{NAME}:2,S"}


def test_what_was_deleted_meanwhile_stays_deleted(maildir: Maildir) -> None:
    deliver(maildir, 2)
    (maildir.root / "new" / NAME).unlink()
    assert copies.complete(maildir) == 1
    assert there(maildir) == ALL - {f"new/{NAME}"}


def test_what_was_moved_meanwhile_is_not_made_again(maildir: Maildir) -> None:
    deliver(maildir, 1)
    maildir.prepare("Archive")
    (maildir.root / "new" / NAME).rename(maildir.root / ".Archive" / "cur" / f"{NAME}:2,S")
    assert copies.complete(maildir) == 2
    assert there(maildir) == {f".Archive/cur/{NAME}:2,S", *ALL - {f"new/{NAME}"}}


def test_only_one_message(maildir: Maildir) -> None:
    deliver(maildir, 1)
    assert copies.complete(maildir, f"1.{'b' * 32}.twinmail,S=1,W=1") == 0
    assert copies.complete(maildir, NAME) == 2


def test_a_finished_note_is_forgotten(maildir: Maildir) -> None:
    deliver(maildir, 3)
    copies.end(maildir, NAME)
    copies.end(maildir, NAME)
    assert list((maildir.root.parent / FOLDER).iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"{}", b'{"name":"x","targets":[["A"]]}', b"\xff"])
def test_a_damaged_note_is_removed(maildir: Maildir, data: bytes) -> None:
    maildir.prepare("INBOX")
    folder = maildir.root.parent / FOLDER
    folder.mkdir()
    (folder / f"{STEM}.json").write_bytes(data)
    assert copies.complete(maildir) == 0 and list(folder.iterdir()) == []
