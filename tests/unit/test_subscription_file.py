"""Dovecot's list of subscribed folders."""

import shutil
from pathlib import Path

import pytest

from twinmail.dotlock import FolderLocked, held
from twinmail.subscription_file import NAME, add, release, with_added


@pytest.mark.parametrize(
    ("data", "folder", "expected"),
    [
        (b"", "A", b"V\t2\n\nA\n"),
        (b"V\t2\n\nA\n", "A", b"V\t2\n\nA\n"),
        (b"V\t2\n\nA\n", "A.B", b"V\t2\n\nA\nA\tB\n"),
        (b"V\t2\n\nA", "B", b"V\t2\n\nA\nB\n"),
        (b"A\nA.B\n", "C", b"V\t2\n\nA\nA\tB\nC\n"),
        (b"V\t2\n\nAB\n", "A", b"V\t2\n\nAB\nA\n"),
    ],
)
def test_added_once_in_dovecots_form(data: bytes, folder: str, expected: bytes) -> None:
    assert with_added(data, folder) == expected


def test_file_is_replaced_under_dovecots_lock(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    add(tmp_path, "Vereine.B&APw-ro e%2eV%2e")
    add(tmp_path, "Vereine.B&APw-ro e%2eV%2e")
    assert (tmp_path / NAME).read_bytes() == b"V\t2\n\nVereine\tB&APw-ro e%2eV%2e\n"
    assert sorted(one.name for one in tmp_path.rglob("*")) == [NAME, "tmp"]
    (tmp_path / f"{NAME}.lock").write_text("1:dovecot")
    # What is there already needs no lock.
    add(tmp_path, "Vereine.B&APw-ro e%2eV%2e")
    ticks = iter(range(0, 1000, 4))
    with pytest.raises(FolderLocked):
        add(tmp_path, "Other", clock=lambda: next(ticks))


def test_own_lock_of_a_killed_process_is_removed_dovecots_stays(tmp_path: Path) -> None:
    lock = tmp_path / f"{NAME}.lock"
    assert not release(tmp_path)
    lock.write_text("1:dovecot")
    assert not release(tmp_path) and lock.exists()
    lock.unlink()
    with pytest.raises(SystemExit), held(lock, 30):
        shutil.copy(lock, tmp_path / "kept")
        raise SystemExit
    (tmp_path / "kept").rename(lock)
    assert release(tmp_path) and not lock.exists()
