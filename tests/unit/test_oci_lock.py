"""``image.lock``: one text for one lock, and errors that say what to do."""

from pathlib import Path

import pytest

from twinmail.oci.lock import ImageLock, LockError, Package, PlatformLock, Wheel
from twinmail.oci.spec import PLATFORMS

PACKAGE = Package(
    "libc6", "2.41", "debian/pool/main/g/glibc/libc6_2.41_amd64.deb", 10, "a" * 64, {"prerm": "b" * 64}
)
WHEEL = Wheel("boto3", "1.40.0", "boto3-1.40.0-py3-none-any.whl", 11, "c" * 64)
LOCK = ImageLock(
    1_750_000_000, "20250615T150640Z", "d" * 64, dict.fromkeys(PLATFORMS, PlatformLock((PACKAGE,), (WHEEL,)))
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "dovecot"
    folder.mkdir()
    LOCK.save(folder / "image.lock")
    return folder / "image.lock"


def test_what_is_saved_is_loaded(path: Path) -> None:
    assert ImageLock.load(path) == LOCK
    assert [one.name for one in path.parent.iterdir()] == ["image.lock"]


def test_the_text_has_one_package_a_line() -> None:
    lines = LOCK.to_text().splitlines()
    assert lines[:5] == [
        "{",
        '"version": 1,',
        '"epoch": 1750000000,',
        '"snapshot": "20250615T150640Z",',
        f'"inputs": "{"d" * 64}",',
    ]
    assert sum('"name": "libc6"' in line for line in lines) == 2
    assert LOCK.to_text().endswith("}\n")


def test_an_image_of_files_only_has_an_empty_lock(tmp_path: Path) -> None:
    empty = ImageLock(1, "20250615T150640Z", "d" * 64, dict.fromkeys(PLATFORMS, PlatformLock()))
    empty.save(tmp_path / "image.lock")
    assert ImageLock.load(tmp_path / "image.lock") == empty


def test_what_is_no_wheel_is_a_source_distribution() -> None:
    assert not WHEEL.is_sdist
    assert Wheel("a", "1", "a-1.tar.gz", 1, "c" * 64).is_sdist


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version": 1,', '"version": 7,', "dovecot/image.lock: expected lock version 1, got 7; {remedy}"),
        ('"epoch": 1750000000', '"epoch": 0', "{damaged}epoch: expected seconds since 1970, got 0; {restore}"),
        ("T150640Z", "", "{damaged}snapshot: expected YYYYMMDDTHHMMSSZ, got '20250615'; {restore}"),
        ("d" * 64, "d", "{damaged}inputs: expected a sha256, got 'd'; {restore}"),
        ("a" * 64, "A" * 64, f"{{damaged}}libc6: sha256: expected 64 hex digits, got '{'A' * 64}'; {{restore}}"),
        ('"size": 10', '"size": "10"', "{damaged}libc6: size: expected octets, got '10'; {restore}"),
        ("debian/pool", "../pool", "{damaged}libc6: expected a relative path, got "
         "'../pool/main/g/glibc/libc6_2.41_amd64.deb'; {restore}"),
        ("linux/arm64", "linux/s390x", "{damaged}expected platforms linux/amd64, linux/arm64, got linux/amd64, "
         "linux/s390x; {restore}"),
        ('"inputs"', '"input"', "{damaged}no 'inputs'; {restore}"),
    ],
)  # fmt: skip
def test_a_damaged_lock_says_what_and_what_to_do(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(LockError) as caught:
        ImageLock.load(path)
    remedy = 'run "./inv lock --image dovecot"'
    assert str(caught.value) == message.format(
        damaged="dovecot/image.lock: damaged: ", remedy=remedy, restore=f"restore it from git or {remedy}"
    )


def test_a_missing_lock_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(LockError) as caught:
        ImageLock.load(tmp_path / "image.lock")
    assert (
        str(caught.value) == f'{tmp_path.name}/image.lock: missing; run "./inv lock --image {tmp_path.name}"'
    )


def test_merge_conflicts_are_no_lock(path: Path) -> None:
    path.write_text("<<<<<<< HEAD\n" + path.read_text())
    with pytest.raises(LockError, match=r"not a lock: .*restore it from git or run"):
        ImageLock.load(path)
