"""The dynamic section of ELF files: which libraries they need and where they seek them (gABI, ld.so(8))."""

import struct
from dataclasses import dataclass

# e_machine by platform; every supported platform is 64 bits and little-endian.
MACHINES = {"linux/amd64": 62, "linux/arm64": 183}

# Where the dynamic linker of Debian's libc looks without a cache, by platform.
LIBRARY_FOLDERS = {
    "linux/amd64": ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"),
    "linux/arm64": ("usr/lib/aarch64-linux-gnu", "usr/lib"),
}

_MAGIC = b"\x7fELF\x02\x01"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_ET_EXEC, _ET_DYN = 2, 3


@dataclass(frozen=True)
class Elf:
    """What the dynamic linker reads of one file.

    Attributes:
        machine: ``e_machine``.
        needed: sonames of the libraries it needs, in order.
        search: folders of RUNPATH, else of RPATH, as stored (with ``$ORIGIN``).
        interpreter: path of the dynamic linker of a program; empty for libraries.
    """

    machine: int
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    interpreter: str = ""


def parse(octets: bytes) -> Elf | None:
    """Read the ELF file *octets*; None if it is not 64-bit little-endian code (object files, BPF).

    A damaged file gives None too: the lint is about files that a loader would take.
    """
    if not octets.startswith(_MAGIC):
        return None
    try:
        return _parse(octets)
    except (struct.error, ValueError):
        return None


def _parse(octets: bytes) -> Elf | None:
    kind, machine = struct.unpack_from("<HH", octets, 16)
    if kind not in (_ET_EXEC, _ET_DYN):
        return None
    (offset,) = struct.unpack_from("<Q", octets, 32)
    size, count = struct.unpack_from("<HH", octets, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", octets, offset + index * size) for index in range(count)]
    loads = [
        (address, start, length) for type_, _, start, address, _, length, _, _ in headers if type_ == _PT_LOAD
    ]
    interpreter = ""
    tags: list[tuple[int, int]] = []
    for type_, _, start, _, _, length, _, _ in headers:
        if type_ == _PT_INTERP:
            interpreter = octets[start : start + length].rstrip(b"\0").decode()
        elif type_ == _PT_DYNAMIC:
            tags = [struct.unpack_from("<qQ", octets, at) for at in range(start, start + length, 16)]
    strings = next((_file_offset(value, loads) for tag, value in tags if tag == _DT_STRTAB), 0)

    def text(position: int) -> str:
        begin = strings + position
        return octets[begin : octets.index(b"\0", begin)].decode()

    needed = tuple(text(value) for tag, value in tags if tag == _DT_NEEDED)
    paths = {tag: text(value) for tag, value in tags if tag in (_DT_RPATH, _DT_RUNPATH)}
    # RPATH counts only where there is no RUNPATH.
    search = paths.get(_DT_RUNPATH) or paths.get(_DT_RPATH) or ""
    return Elf(machine, needed, tuple(one for one in search.split(":") if one), interpreter)


def _file_offset(address: int, loads: list[tuple[int, int, int]]) -> int:
    for base, start, length in loads:
        if base <= address < base + length:
            return address - base + start
    raise ValueError(f"address {address:#x} is in no segment")
