"""What the lint finds in trees made by hand, and what is read of this machine's own ELF files."""

import shutil
import struct
from pathlib import Path

import pytest

from twinmail.oci import elf, lint
from twinmail.oci.elf import Elf
from twinmail.oci.tree import Node, complete, directory, file, link

LIBRARIES = "usr/lib/x86_64-linux-gnu"
MACHINE = elf.MACHINES["linux/amd64"]


def tree(*nodes: Node) -> dict[str, Node]:
    return {node.path: node for node in complete(nodes, {}, declared=True)}


def findings(nodes: dict[str, Node], elves: dict[str, Elf] | None = None) -> list[str]:
    return lint.check("linux/amd64", nodes, elves or {})


def test_a_library_in_a_default_folder_is_found() -> None:
    nodes = tree(
        link("lib", "usr/lib"),
        directory("usr/lib"),
        file("usr/bin/x", b""),
        link(f"{LIBRARIES}/liba.so.1", "liba.so.1.2"),
        file(f"{LIBRARIES}/liba.so.1.2", b""),
        file("usr/lib64/ld.so", b""),
    )
    elves = {
        "usr/bin/x": Elf(MACHINE, ("liba.so.1",), (), "/usr/lib64/ld.so"),
        f"{LIBRARIES}/liba.so.1.2": Elf(MACHINE),
    }
    assert findings(nodes, elves) == []


def test_a_library_beside_the_file_needs_a_run_path() -> None:
    nodes = tree(file("opt/x.so", b""), file("opt/libs/libb.so", b""))
    elves = {"opt/libs/libb.so": Elf(MACHINE), "opt/x.so": Elf(MACHINE, ("libb.so",), ("$ORIGIN/libs",))}
    assert findings(nodes, elves) == []
    elves["opt/x.so"] = Elf(MACHINE, ("libb.so",))
    assert findings(nodes, elves) == [
        "/opt/x.so: needs libb.so, which is in none of usr/lib/x86_64-linux-gnu, usr/lib, usr/lib64"
    ]


def test_a_library_of_another_machine_is_none() -> None:
    nodes = tree(file("usr/bin/x", b""), file(f"{LIBRARIES}/liba.so", b""))
    elves = {"usr/bin/x": Elf(MACHINE, ("liba.so",)), f"{LIBRARIES}/liba.so": Elf(183)}
    found = findings(nodes, elves)
    assert found[0].startswith("/usr/bin/x: needs liba.so, which is in none of ")
    assert found[1] == "/usr/lib/x86_64-linux-gnu/liba.so: is code for machine 183, expected 62 (linux/amd64)"


def test_a_missing_dynamic_linker() -> None:
    elves = {"usr/bin/x": Elf(MACHINE, interpreter="/lib64/ld.so")}
    assert findings(tree(file("usr/bin/x", b"")), elves) == [
        "/usr/bin/x: needs the dynamic linker /lib64/ld.so, which is not there"
    ]


@pytest.mark.parametrize(
    ("target", "fine"),
    [
        ("there", True),
        ("/a/there", True),
        ("../a/there", True),
        ("/link/there", True),
        ("/proc/self/mounts", True),
        ("/run/anything", True),
        ("gone", False),
        ("/a/gone", False),
        ("self", False),
        ("../../../a/there", True),  # .. of the root is the root
    ],
)
def test_links_lead_somewhere(target: str, fine: bool) -> None:
    nodes = tree(directory("a"), file("a/there", b""), link("link", "a"), link("a/self", target))
    assert findings(nodes) == ([] if fine else [f"/a/self: leads to {target}, which is not there"])


def test_modes() -> None:
    nodes = {
        "su": Node("su", file("su", b"").kind, 0o4755),
        "w": file("w", b"", 0o666),
        "tmp": directory("tmp", 0o1777),
    }
    assert findings(nodes) == [
        "/su: has mode 4755; images have no set-user-id and no set-group-id",
        "/w: has mode 0666; everybody may write it",
    ]


def test_the_error_names_image_findings_and_remedy() -> None:
    text = str(lint.LintError("app", "linux/amd64", ["/x: one", "/y: two"]))
    assert text.splitlines() == [
        "app for linux/amd64: 2 findings:",
        "  /x: one",
        "  /y: two",
        'add the missing package to its image.toml, or leave the file out by "exclude"',
    ]


def test_programs_of_this_machine_are_read() -> None:
    found = elf.parse(Path(shutil.which("sh") or "/bin/sh").resolve().read_bytes())
    assert found is not None
    assert found.machine in elf.MACHINES.values()
    assert "libc.so.6" in found.needed
    assert "ld-linux" in found.interpreter


def test_run_path_is_stronger_than_rpath() -> None:
    assert elf.parse(_shared(b"\0liba.so\0/run\0/r\0", [(1, 1), (29, 9), (15, 14)])) == Elf(
        62, ("liba.so",), ("/run",)
    )
    assert elf.parse(_shared(b"\0liba.so\0/run\0/r\0", [(15, 14)])) == Elf(62, (), ("/r",))


@pytest.mark.parametrize("octets", [b"", b"#!/bin/sh", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01" + bytes(100)])
def test_other_files_are_no_elf(octets: bytes) -> None:
    assert elf.parse(octets) is None


def _shared(strings: bytes, tags: list[tuple[int, int]]) -> bytes:
    """A shared object that is nothing but headers, strings and a dynamic section."""
    start = 64 + 2 * 56
    dynamic = start + len(strings)
    table = b"".join(struct.pack("<qQ", *tag) for tag in [*tags, (5, start), (0, 0)])
    size = dynamic + len(table)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, size, size, 4096)
    segment = struct.pack("<IIQQQQQQ", 2, 4, dynamic, dynamic, dynamic, len(table), len(table), 8)
    return header + load + segment + strings + table
