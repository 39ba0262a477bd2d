"""Unpacking Debian packages made by hand."""

import tarfile
from pathlib import Path

import pytest

from tests import package
from tests.package import folder, link, member
from twinmail.oci import deb
from twinmail.oci.tree import directory, file
from twinmail.oci.tree import link as link_node


def put(tmp_path: Path, octets: bytes) -> Path:
    path = tmp_path / "x.deb"
    path.write_bytes(octets)
    return path


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
def test_entries_and_control(tmp_path: Path, compression: str) -> None:
    entries = [
        folder("./"),
        folder("./var/mail", 0o2775, gid=8, gname="mail"),
        member("./lib/odd", b"odd", mode=0o4755, uid=7),
        link("./usr/bin/it", "../lib/odd"),
    ]
    octets = package.deb("it", entries, "2:1-1", compression, {"md5sums": b"sums\n", "postinst": b"exit 1"})
    found = deb.unpack(put(tmp_path, octets))
    assert found.fields["Package"] == "it"
    assert found.fields["Description"] == "a test"
    assert found.nodes == (
        directory(""),
        directory("var/mail", 0o775),
        file("usr/lib/odd", b"odd", 0o755),
        link_node("usr/bin/it", "../lib/odd"),
    )
    status, sums = found.status
    assert status.path == "var/lib/dpkg/status.d/it"
    assert status.content.startswith(b"Package: it\nStatus: install ok installed\nVersion: 2:1-1\n")
    assert sums.content == b"sums\n"
    assert deb.version(tmp_path / "x.deb") == "2:1-1"


def test_hard_links_become_copies(tmp_path: Path) -> None:
    entries = [member("./a", b"same"), member("./b", b"", type=tarfile.LNKTYPE, linkname="./a")]
    found = deb.unpack(put(tmp_path, package.deb("it", entries)))
    assert [node.content for node in found.nodes] == [b"same", b"same"]


def test_device_files_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, package.deb("it", [member("./dev/null", b"", type=tarfile.CHRTYPE)]))
    with pytest.raises(deb.DebError, match=r"\./dev/null is a device, a pipe or of an unknown kind"):
        deb.unpack(path)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "no ar archive"),
        (b"!<arch>\n" + b"x" * 60, "no ar header at offset 8"),
        (package.deb("it", [])[:-40], "cut short"),
        (
            package.ar({"debian-binary": b"2.0\n"}),
            "no control.tar in xz, gzip or plain form; it has debian-binary",
        ),
        (package.ar({"control.tar.xz": b"xz", "data.tar": b""}), "not supported by decoder|Input format"),
    ],
)
def test_damaged_files_are_explained(tmp_path: Path, octets: bytes, why: str) -> None:
    path = put(tmp_path, octets)
    with pytest.raises(deb.DebError, match=f"(?s)x.deb: not a Debian package: .*({why}).*fetch it again"):
        deb.unpack(path)


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("usr/share/doc/it/copyright", True),
        ("usr/share/doc/it", True),
        ("usr/share/doc/it/README", False),
        ("usr/share/doc/it/examples/x", False),
        ("usr/share/man/man1/it.1.gz", False),
        ("usr/share/locale", False),
        ("usr/share/manners", True),
        ("usr/bin/it", True),
    ],
)
def test_documentation_goes_and_copyright_stays(path: str, kept: bool) -> None:
    assert deb.keeps(path) is kept
