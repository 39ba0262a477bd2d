"""The fault that fills a volume, while mail comes to it."""

import errno
import os
from pathlib import Path
from typing import cast

import pytest

from twinmail.chaos import server_faults
from twinmail.chaos.server_faults import NotBroken, Servers
from twinmail.local.system import LocalSystem


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of 30,000 octets; its first free ones are taken by a message before anybody gets them."""
    arrived = False

    def used() -> int:
        return sum(path.stat().st_size for path in tmp_path.iterdir())

    def allocate(descriptor: int, offset: int, octets: int) -> None:
        nonlocal arrived
        if not arrived:
            arrived = True
            (tmp_path / "message").write_bytes(bytes(10_000))
        if octets > 30_000 - used():
            # As tmpfs has it: all or nothing.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.truncate(descriptor, offset + octets)

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    monkeypatch.setattr(server_faults, "_free", lambda _: 30_000 - used())
    return tmp_path


def fill(volume: Path) -> None:
    Servers(cast(LocalSystem, None), {"backup": volume})._fill("backup")


def test_volume_is_full_although_mail_comes_while_it_is_filled(volume: Path) -> None:
    fill(volume)
    assert server_faults._free(volume) == 0
    assert (volume / ".filler").stat().st_size == 20_000


def test_volume_that_does_not_become_full_is_said(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_faults, "_FILL_SECONDS", 0.0)
    monkeypatch.setattr(server_faults, "_free", lambda _: 10**6)
    with pytest.raises(NotBroken, match="not full after 0 s: 1000000 octets free"):
        fill(volume)
