"""Unpacking wheels and source distributions made by hand; what an image declares itself."""

from pathlib import Path

import pytest

from tests import package
from twinmail.oci import declared, distribution
from twinmail.oci.distribution import PLACE, DistributionError
from twinmail.oci.lock import Wheel
from twinmail.oci.spec import Group, ImageSpec, PythonSpec, User
from twinmail.oci.tree import Node, TreeError, file, link


def unpack(tmp_path: Path, filename: str, octets: bytes) -> dict[str, Node]:
    path = tmp_path / "download"
    path.write_bytes(octets)
    wheel = Wheel("a-name", "1.0", filename, len(octets), "0" * 64)
    return {node.path: node for node in distribution.unpack(wheel, path)}


def test_wheel_schemes_and_modes(tmp_path: Path) -> None:
    octets = package.wheel(
        {
            "a/__init__.py": b"",
            "a/tool": b"",
            "a-1.data/purelib/b.py": b"",
            "a-1.data/platlib/c.so": b"",
            "a-1.data/data/share/d": b"",
            "a-1.data/scripts/e": b"",
            "a-1.data/headers/f.h": b"",
        },
        executable=["a/tool"],
    )
    nodes = unpack(tmp_path, "a-1-py3-none-any.whl", octets)
    inside = ["a/__init__.py", "a/tool", "b.py", "c.so"]
    assert sorted(nodes) == [*(f"{PLACE}/{name}" for name in inside), "usr/share/d"]
    assert nodes[f"{PLACE}/a/tool"].mode == 0o755
    assert nodes[f"{PLACE}/a/__init__.py"].mode == 0o644


def test_a_wheel_cannot_leave_the_image(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="leads out of the image"):
        unpack(tmp_path, "a-1-py3-none-any.whl", package.wheel({"../" * 9 + "etc/passwd": b""}))


def test_damaged_wheel(tmp_path: Path) -> None:
    with pytest.raises(
        DistributionError, match=r"^a\.whl: File is not a zip file; remove .*download and fetch"
    ):
        unpack(tmp_path, "a.whl", b"PK")


@pytest.mark.parametrize("prefix", ["", "src/"])
def test_sdist_of_packages(tmp_path: Path, prefix: str) -> None:
    octets = package.sdist(
        "a_name-1.0",
        {
            "PKG-INFO": b"Name: a-name\n",
            "setup.py": b"raise SystemExit('never runs')",
            f"{prefix}a/__init__.py": b"x",
            f"{prefix}a/data.txt": b"",
            "tests/__init__.py": b"",
            "a.egg-info/entry_points.txt": b"[g]\n",
        },
    )
    nodes = unpack(tmp_path, "a_name-1.0.tar.gz", octets)
    assert sorted(nodes) == [
        f"{PLACE}/a/__init__.py",
        f"{PLACE}/a/data.txt",
        f"{PLACE}/a_name-1.0.dist-info/METADATA",
        f"{PLACE}/a_name-1.0.dist-info/entry_points.txt",
    ]


def test_sdist_of_one_module(tmp_path: Path) -> None:
    files = {"PKG-INFO": b"", "a.py": b"", "other.py": b"", "a.egg-info/top_level.txt": b"a\n"}
    nodes = unpack(tmp_path, "a_name-1.0.tar.gz", package.sdist("a_name-1.0", files))
    assert sorted(nodes) == [f"{PLACE}/a.py", f"{PLACE}/a_name-1.0.dist-info/METADATA"]


def test_sdist_that_needs_a_build(tmp_path: Path) -> None:
    octets = package.sdist("a_name-1.0", {"PKG-INFO": b"", "a.c": b""})
    with pytest.raises(
        DistributionError, match="a-name has no package that can be copied; pin a version that has"
    ):
        unpack(tmp_path, "a_name-1.0.tar.gz", octets)


def test_metadata_of_our_own() -> None:
    nodes = distribution.metadata("our-name", "2", {"g.b": {"Name:x": "m:o"}, "g.a": {}})
    assert [node.path.removeprefix(f"{PLACE}/our_name-2.dist-info/") for node in nodes] == [
        "METADATA",
        "entry_points.txt",
    ]
    assert nodes[1].content == b"[g.a]\n\n[g.b]\nName:x = m:o\n\n"


def spec(folder: Path, **facts: object) -> ImageSpec:
    return ImageSpec("app", folder, **facts)  # type: ignore[arg-type]


def test_accounts_of_all_images(tmp_path: Path) -> None:
    base = spec(tmp_path, users=(User("root", 0, 0, "/root"), User("twinmail", 1000, 1000)))
    app = spec(tmp_path, users=(User("b", 9, 1000),), groups=(Group("extra", 50, ("b",)),))
    passwd, group = declared.accounts([base, app])
    assert passwd.content.decode().splitlines() == [
        "root:x:0:0::/root:/usr/sbin/nologin",
        "b:x:9:1000::/nonexistent:/usr/sbin/nologin",
        "twinmail:x:1000:1000::/nonexistent:/usr/sbin/nologin",
    ]
    assert group.content.decode().splitlines() == ["root:x:0:", "extra:x:50:b", "twinmail:x:1000:"]


def test_only_what_git_keeps_counts(tmp_path: Path) -> None:
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    (tmp_path / "rootfs/empty").mkdir()
    (tmp_path / "rootfs/etc/__pycache__").mkdir()
    (tmp_path / "rootfs/etc/__pycache__/x.pyc").write_bytes(b"")
    for name, mode in {"x": 0o640, "run": 0o700, "x.pyc": 0o644}.items():
        (tmp_path / "rootfs/etc" / name).write_bytes(b"1")
        (tmp_path / "rootfs/etc" / name).chmod(mode)
    (tmp_path / "rootfs/etc/link").symlink_to("/gone")
    assert list(declared.folder(tmp_path / "rootfs", "")) == [
        link("etc/link", "/gone"),
        file("etc/run", b"1", 0o755),
        file("etc/x", b"1", 0o644),
    ]


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    wanted = spec(tmp_path / "app", python=PythonSpec(sources=("src/gone",)))
    with pytest.raises(
        TreeError, match=r"^app/image.toml: python.sources: 'src/gone' is no folder of the checkout$"
    ):
        declared.sources(wanted, tmp_path)


def test_no_authorities_no_bundle() -> None:
    assert declared.bundle([file("etc/x", b"")]) == []
