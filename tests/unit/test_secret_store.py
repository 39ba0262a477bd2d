"""The operator's secrets on disk."""

from pathlib import Path

import pytest

from twinmail.secret_store import SecretStore, SecretStoreError


def test_keeps_secrets_from_others(tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "secrets")
    assert store.get("syncer/backup/credentials") is None
    store.put("syncer/backup/credentials", b"first")
    store.put("des-key/backup", b"\x00key")
    store.put("syncer/backup/credentials", b"second")
    assert store.get("syncer/backup/credentials") == b"second"
    assert list(store.names()) == ["des-key/backup", "syncer/backup/credentials"]
    modes = {
        path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")
    }
    assert modes == {
        "secrets": 0o700,
        "secrets/des-key": 0o700,
        "secrets/des-key/backup": 0o600,
        "secrets/syncer": 0o700,
        "secrets/syncer/backup": 0o700,
        "secrets/syncer/backup/credentials": 0o600,
    }
    store.remove("des-key/backup")
    store.remove("des-key/backup")
    assert list(store.names()) == ["syncer/backup/credentials"]


def test_secret_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    store = SecretStore(tmp_path)
    store.put("relay", b"x")
    store.path("relay").chmod(0o640)
    with pytest.raises(SecretStoreError, match=r"mode 0640 lets others read it; chmod 0600"):
        store.get("relay")


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/passwd", "a//b", "a/../b", "A", ".hidden", "a/.b"])
def test_name_stays_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecretStoreError):
        SecretStore(tmp_path).put(name, b"")


def test_what_a_killed_writer_left_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / ".relay.x1").write_bytes(b"half")
    assert list(SecretStore(tmp_path).names()) == []
    assert list(SecretStore(tmp_path / "missing").names()) == []
