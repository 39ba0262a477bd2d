"""Debian packages as they are unpacked: an ar archive of two tar archives (deb(5)). No script ever runs."""

import io
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinmail.errors import PermanentError
from twinmail.oci.tree import Node, clean, directory, file, link

_MAGIC = b"!<arch>\n"
_HEADER = 60

# What nobody reads in an image. Copyright files stay: the licences ask for it.
_UNREAD = tuple(
    f"usr/share/{name}/"
    for name in ("bug", "doc-base", "i18n", "info", "lintian", "linda", "locale", "man", "menu", "omf")
)
_DOCUMENTS = "usr/share/doc/"


class DebError(PermanentError):
    """The file is not a Debian package, or holds what no image can have."""


@dataclass(frozen=True)
class Deb:
    """One unpacked package.

    Attributes:
        control: the control paragraph, as text that ends with one newline.
        fields: its fields by name; the description is cut to its first line.
        md5sums: the list of its files, as dpkg keeps it; may be empty.
        nodes: its entries, at their place in a merged /usr, in the order of the archive.
    """

    control: str
    fields: Mapping[str, str]
    md5sums: bytes
    nodes: tuple[Node, ...]

    @property
    def status(self) -> list[Node]:
        """What scanners look for: one paragraph a package in ``status.d``, as layers cannot share a file."""
        place = f"var/lib/dpkg/status.d/{self.fields['Package']}"
        head, _, rest = self.control.partition("\n")
        paragraph = f"{head}\nStatus: install ok installed\n{rest}"
        nodes = [file(place, paragraph.encode())]
        if self.md5sums:
            nodes.append(file(f"{place}.md5sums", self.md5sums))
        return nodes


def unpack(path: Path) -> Deb:
    """Read the package at *path*.

    Raises:
        DebError: it is damaged, or has a device file or another kind of entry that is not supported.
    """
    try:
        members = dict(_members(path.read_bytes()))
        control = _tar(members, "control.tar")
        data = _tar(members, "data.tar")
        meta = {
            member.name.removeprefix("./"): _read(control, member) for member in control if member.isfile()
        }
        text = meta["control"].decode().strip("\n") + "\n"
        return Deb(text, _fields(text), meta.get("md5sums", b""), tuple(_nodes(data)))
    except (ValueError, KeyError, tarfile.TarError, lzma.LZMAError) as error:
        raise DebError(
            f"{path}: not a Debian package: {error}; remove the file and fetch it again"
        ) from error


def control_files(path: Path) -> dict[str, bytes]:
    """What the package at *path* tells dpkg, by name: ``control``, ``md5sums``, maintainer scripts.

    Raises:
        DebError: it is damaged.
    """
    try:
        control = _tar(dict(_members(path.read_bytes())), "control.tar")
        return {
            member.name.removeprefix("./"): _read(control, member) for member in control if member.isfile()
        }
    except (ValueError, KeyError, tarfile.TarError, lzma.LZMAError) as error:
        raise DebError(
            f"{path}: not a Debian package: {error}; remove the file and fetch it again"
        ) from error


def version(path: Path) -> str:
    """The version of the package at *path*.

    Raises:
        DebError: it is damaged.
    """
    return unpack(path).fields["Version"]


def keeps(path: str) -> bool:
    """Whether an image keeps the package's file at *path*: documentation goes, copyright stays."""
    if path.startswith(_DOCUMENTS):
        parts = path.removeprefix(_DOCUMENTS).split("/")
        return len(parts) == 1 or parts[-1] == "copyright"
    return not f"{path}/".startswith(_UNREAD)


def _members(octets: bytes) -> Iterator[tuple[str, bytes]]:
    if not octets.startswith(_MAGIC):
        raise ValueError("no ar archive")
    position = len(_MAGIC)
    while position + _HEADER <= len(octets):
        header = octets[position : position + _HEADER]
        if header[58:] != b"`\n":
            raise ValueError(f"no ar header at offset {position}")
        size = int(header[48:58])
        start = position + _HEADER
        if start + size > len(octets):
            raise ValueError("cut short")
        yield header[:16].decode("ascii").rstrip().rstrip("/"), octets[start : start + size]
        position = start + size + size % 2


def _tar(members: Mapping[str, bytes], name: str) -> tarfile.TarFile:
    if f"{name}.xz" in members:
        octets = lzma.decompress(members[f"{name}.xz"])
    elif name in members:
        octets = members[name]
    elif f"{name}.gz" in members:
        return tarfile.open(fileobj=io.BytesIO(members[f"{name}.gz"]), mode="r:gz")
    else:
        raise ValueError(f"no {name} in xz, gzip or plain form; it has {', '.join(sorted(members))}")
    return tarfile.open(fileobj=io.BytesIO(octets), mode="r:")


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise ValueError(f"{member.name} has no content")
    return stream.read()


def _nodes(archive: tarfile.TarFile) -> Iterator[Node]:
    """The entries, all of root: groups such as mail and staff exist on a host, not in an image."""
    for member in archive:
        path = clean(member.name)
        if member.isdir():
            yield directory(member.name, member.mode & 0o7777)
        elif not path:
            raise ValueError(f"{member.name!r} is no folder")
        elif member.issym():
            yield link(path, member.linkname)
        elif member.isfile() or member.islnk():
            # A hard link becomes a copy: extractfile follows it, and layers stay independent of each other.
            yield file(path, _read(archive, member), member.mode & 0o7777)
        else:
            raise ValueError(f"{member.name} is a device, a pipe or of an unknown kind")


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line[0].isspace():
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields
