"""Dovecot's list of keywords, and its lock."""

import os
import threading
import time
from pathlib import Path

import pytest

from twinmail import keyword_file
from twinmail.dotlock import FolderLocked
from twinmail.keyword_file import LIMIT, LOCK, NAME, ensure, from_bytes, letters_of, to_bytes
from twinmail.keyword_file import with_added as added


def test_known_keywords_need_no_lock(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("0 wichtig\n3 $label1\n")
    (tmp_path / LOCK).write_text("")
    assert ensure(tmp_path, ["$LABEL1", "wichtig"]) == "ad"


def test_missing_keywords_are_added_at_the_first_free_letters(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("0 wichtig\n2 c\n")
    os.utime(tmp_path / NAME, (2_000_000_000, 2_000_000_000))
    assert ensure(tmp_path, ["x", "wichtig", "y", "X"]) == "abd"
    assert (tmp_path / NAME).read_text() == "0 wichtig\n1 x\n2 c\n3 y\n"
    # Dovecot compares whole seconds, and only reads a list again whose time has changed.
    assert (tmp_path / NAME).stat().st_mtime >= 2_000_000_001
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_folder_takes_no_more_than_there_are_letters(tmp_path: Path) -> None:
    names = [f"k{number}" for number in range(LIMIT + 3)]
    assert ensure(tmp_path, names) == "abcdefghijklmnopqrstuvwxyz"
    assert ensure(tmp_path, ["k27"]) == ""


def test_damaged_lines_count_for_nothing() -> None:
    data = b"0 a\nx y\n1\n26 z\n-1 z\n0 b\n2 c d\n\xff\n"
    assert from_bytes(data) == {"a": "a", "c": "c d"}
    assert from_bytes(to_bytes({"b": "x", "a": "y"})) == {"a": "y", "b": "x"}
    assert letters_of({"a": "x"}, ["y"]) == "" and added({}, []) == {}


def test_waits_for_dovecots_lock(tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    lock.write_text("1:dovecot")
    threading.Timer(0.2, lock.unlink).start()
    start = time.monotonic()
    assert ensure(tmp_path, ["a"]) == "a"
    assert time.monotonic() - start >= 0.1 and not lock.exists()


def test_gives_up_in_the_end_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("1:dovecot")
    ticks = iter(range(0, 1000, 4))
    with pytest.raises(FolderLocked, match="held for more than 10 s"):
        ensure(tmp_path, ["a"], clock=lambda: next(ticks))
    assert (tmp_path / LOCK).read_text() == "1:dovecot" and not (tmp_path / NAME).exists()


def test_a_lock_that_nobody_holds_any_more_is_taken(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("1:dovecot")
    os.utime(tmp_path / LOCK, (time.time() - 130, time.time() - 130))
    assert ensure(tmp_path, ["a"]) == "a"


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    def add(number: int) -> None:
        ensure(tmp_path, [f"k{number}"])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(from_bytes((tmp_path / NAME).read_bytes()).values()) == {f"k{number}" for number in range(8)}


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(keyword_file.NotWritten, match="No space left"):
        ensure(tmp_path, ["a"])
    assert list(tmp_path.iterdir()) == []
