"""Files are whole or absent."""

import os
import stat
import threading
from pathlib import Path

import pytest

from twinmail import durable_file


def test_contents_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "users"
    durable_file.write(path, b"one", mode=0o600)
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    durable_file.write(path, b"two", mode=0o644)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    versions = {bytes([letter]) * 200_000 for letter in b"abcdef"}
    durable_file.write(path, min(versions))
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        for version in versions:
            durable_file.write(path, version)
    done.set()
    reader.join()
    assert seen <= versions


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "users"
    durable_file.write(path, b"one")
    os.chown(path, 1000, 1001)
    durable_file.write(path, b"two")
    assert (path.stat().st_uid, path.stat().st_gid) == (1000, 1001)


@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "users"
    durable_file.write(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(durable_file.NotWritten, match=r"users: cannot be written: No space left on device"):
        durable_file.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["users"]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(durable_file.NotWritten, match="No such file or directory"):
        durable_file.write(tmp_path / "absent" / "users", b"")
