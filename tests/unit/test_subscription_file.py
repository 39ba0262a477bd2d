"""Dovecot's list of subscribed folders."""

from pathlib import Path

import pytest

from twinmail.dotlock import FolderLocked
from twinmail.subscription_file import NAME, add, with_added


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
    add(tmp_path, "Vereine.B&APw-ro e%2eV%2e")
    add(tmp_path, "Vereine.B&APw-ro e%2eV%2e")
    assert (tmp_path / NAME).read_bytes() == b"V\t2\n\nVereine\tB&APw-ro e%2eV%2e\n"
    assert [one.name for one in tmp_path.iterdir()] == [NAME]
    (tmp_path / f"{NAME}.lock").write_text("1:dovecot")
    # What is there already needs no lock.
    add(tmp_path, "Vereine.B&APw-ro e%2eV%2e")
    ticks = iter(range(0, 1000, 4))
    with pytest.raises(FolderLocked):
        add(tmp_path, "Other", clock=lambda: next(ticks))
