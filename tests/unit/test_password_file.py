"""The file that Dovecot reads."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinmail import password, password_file
from twinmail.accounts import Accounts, AppPassword

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
MAIN = password.digest("main")
APP = password.digest("abcde-fghij-kmnpq-rstuv")


def accounts() -> Accounts:
    found = Accounts().added("bob", MAIN, [], NOW).added("ann", MAIN, ["ann@example.org"], NOW)
    return found.with_app_password("ann", AppPassword("Gerät", "abcde", APP, NOW))


def test_lines() -> None:
    assert password_file.to_bytes(accounts()).decode() == (
        "ann@example.org:::::::user=ann noauthenticate\n"
        f"ann/:{MAIN}\n"
        f"ann/abcde:{APP}\n"
        f"bob/:{MAIN}\n"
        "/end:::::::noauthenticate whole=/-end\n"
    )


def test_saved_for_its_owner_alone_and_only_when_something_changed(tmp_path: Path) -> None:
    path = tmp_path / "users"
    assert password_file.save(path, accounts())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.stat()
    assert not password_file.save(path, accounts())
    assert path.stat() == before
    assert password_file.save(path, accounts().without("bob"))


def test_each_change_has_another_size_than_the_one_before(tmp_path: Path) -> None:
    """Dovecot tells a file from the next by its size and the second it was written in."""
    path = tmp_path / "users"
    sizes = []
    for number in range(20):
        password_file.save(path, accounts().with_password("ann", password.digest(str(number)), NOW))
        sizes.append(path.stat().st_size)
    assert all(len(set(sizes[start : start + 3])) == 3 for start in range(18))


@pytest.mark.parametrize("damage", [b"", b"ann/:", b"\xff\n"])
def test_damaged_file_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "users"
    path.write_bytes(damage)
    assert password_file.save(path, accounts())
    assert path.read_bytes().startswith(password_file.to_bytes(accounts()))
