"""Delivery into a Maildir."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinmail.durable_file import NotWritten
from twinmail.keyword_file import LOCK
from twinmail.maildir import Maildir, Staged, stem
from twinmail.manifest import INBOX

ARRIVED = datetime(2026, 11, 22, 10, 11, 12, tzinfo=UTC)
STEM = f"1795342272.{'a' * 32}.twinmail"
NAME = f"{STEM},S=9,W=10"
BODY = b"A: b\n\r\nc\n"


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    return Maildir(tmp_path / "ann" / "Maildir")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def deliver(maildir: Maildir, folder: str = "INBOX", name: str = NAME) -> Path:
    staged = maildir.stage(STEM, [BODY], ARRIVED)
    path = maildir.link(staged, folder, name)
    maildir.settle(folder)
    maildir.discard(staged.path)
    return path


def test_delivered_message_is_in_new_and_nothing_is_in_tmp(maildir: Maildir) -> None:
    path = deliver(maildir)
    assert path == maildir.root / "new" / NAME
    assert path.read_bytes() == BODY
    assert names(maildir.root) == ["cur", "new", "tmp"]
    assert names(maildir.root / "tmp") == []


def test_files_are_0600_and_folders_0700(maildir: Maildir, tmp_path: Path) -> None:
    deliver(maildir, "Junk")
    for path in (tmp_path / "ann").rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_other_folders_are_maildir_plus_plus(maildir: Maildir) -> None:
    path = deliver(maildir, "Junk")
    assert path == maildir.root / ".Junk" / "new" / NAME
    assert names(maildir.root / ".Junk") == ["cur", "maildirfolder", "new", "tmp"]


def test_what_is_staged_is_measured(maildir: Maildir) -> None:
    staged = maildir.stage(STEM, [BODY[:4], BODY[4:5], BODY[5:]], ARRIVED)
    assert (staged.size, staged.vsize) == (9, 11)
    assert staged.sha256 == hashlib.sha256(BODY).hexdigest()


def test_time_of_the_file_is_the_arrival(maildir: Maildir) -> None:
    assert deliver(maildir).stat().st_mtime == ARRIVED.timestamp()


def test_second_link_of_the_same_message_changes_nothing(maildir: Maildir) -> None:
    first = deliver(maildir)
    inode = first.stat().st_ino
    assert deliver(maildir) == first
    assert first.stat().st_ino == inode


def test_folder_that_vanished_is_made_again_by_the_next_attempt(maildir: Maildir) -> None:
    deliver(maildir, "Junk").unlink()
    for path in (maildir.root / ".Junk").iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    (maildir.root / ".Junk").rmdir()
    with pytest.raises(NotWritten, match="No such file"):
        deliver(maildir, "Junk")
    assert deliver(maildir, "Junk").exists()


@pytest.mark.parametrize("call", ["write", "fsync", "utime"])
def test_failure_while_staging_leaves_nothing(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    maildir.prepare("INBOX")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(NotWritten, match="No space left on device; free space"):
        maildir.stage(STEM, [BODY], ARRIVED)
    assert names(maildir.root / "tmp") == names(maildir.root / "new") == []


def test_error_of_the_download_is_passed_on_and_leaves_nothing(maildir: Maildir) -> None:
    def broken() -> Iterator[bytes]:
        yield BODY
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError, match="cut"):
        maildir.stage(STEM, broken(), ARRIVED)
    assert names(maildir.root / "tmp") == []


def test_message_of_another_mailbox_shares_its_octets(maildir: Maildir, tmp_path: Path) -> None:
    other = Maildir(tmp_path / "bob" / "Maildir")
    staged = maildir.stage(STEM, [BODY], ARRIVED)
    assert other.take(staged, STEM, ARRIVED) == staged
    path = other.link(staged, "INBOX", NAME)
    maildir.discard(staged.path)
    assert path.read_bytes() == BODY and path.stat().st_nlink == 1


def test_message_of_another_file_system_is_copied(maildir: Maildir) -> None:
    source = maildir.stage(STEM, [BODY], ARRIVED)
    far = Staged(Path("/proc/self/comm"), 0, 0, "")
    copy = maildir.take(far, STEM, ARRIVED)
    assert copy.path.parent == maildir.root / "tmp" and copy.path != source.path
    assert copy.path.read_bytes() == Path("/proc/self/comm").read_bytes()


def test_sweep_removes_only_what_was_staged(maildir: Maildir) -> None:
    staged = maildir.stage(STEM, [BODY], ARRIVED)
    foreign = maildir.root / "tmp" / "1795342272.M1P2.dovecot"
    foreign.write_bytes(b"")
    assert maildir.sweep() == 1
    assert not staged.path.exists() and foreign.exists()


def test_sweep_removes_own_locks_on_keywords_and_leaves_dovecots(maildir: Maildir) -> None:
    for folder, holder in ((INBOX, "17:twinmail-syncer"), ("Junk", "17:imap.example.org")):
        maildir.prepare(folder)
        (maildir.folder(folder) / LOCK).write_text(holder)
        (maildir.folder(folder) / "dovecot-keywords.lock").write_text("half a li")
    assert maildir.sweep() == 1
    assert not list(maildir.root.glob("*.lock")) and len(list(maildir.folder("Junk").glob("*.lock"))) == 2


@pytest.mark.parametrize("place", ["new", "cur", ".Archive/cur", ".Junk/new", ".Verein e%2eV/cur"])
@pytest.mark.parametrize("shape", [NAME, f"{NAME}:2,", f"{NAME}:2,FRSTab", f"{STEM}:2,S", f"{STEM},S=9:2,"])
def test_scan_finds_a_message_wherever_its_user_put_it(maildir: Maildir, place: str, shape: str) -> None:
    maildir.prepare("INBOX")
    folder = maildir.root / place
    for part in ("cur", "new"):
        (folder.parent / part).mkdir(parents=True, exist_ok=True)
    (folder / shape).write_bytes(BODY)
    (folder / "1795342272.M1P2.elsewhere,S=9").write_bytes(BODY)
    expected = "INBOX" if "/" not in place else place.partition("/")[0][1:]
    assert {one: found[0] for one, found in maildir.scan().items()} == {STEM: expected}


def test_scan_of_no_maildir_finds_nothing(tmp_path: Path) -> None:
    assert Maildir(tmp_path / "absent").scan() == {}


def test_stem() -> None:
    assert stem(f"{NAME}:2,S") == stem(NAME) == stem(STEM) == STEM
