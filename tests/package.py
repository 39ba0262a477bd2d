"""Debian packages and wheels made by hand, small enough to read."""

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def member(name: str, content: bytes = b"", /, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    """An entry for `deb`; *facts* are attributes of `tarfile.TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def folder(name: str, mode: int = 0o755, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A folder for `deb`."""
    return member(name, b"", type=tarfile.DIRTYPE, mode=mode, **facts)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic link for `deb`."""
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def deb(
    name: str,
    entries: Sequence[tuple[tarfile.TarInfo, bytes]],
    version: str = "1.0",
    compression: str = "xz",
    control: Mapping[str, bytes] | None = None,
) -> bytes:
    """A package of these entries; ``md5sums`` and scripts may be added by *control*."""
    text = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDescription: a test\n more of it\n"
    files = [member("./control", text.encode())]
    files += [member(f"./{key}", value) for key, value in (control or {}).items()]
    packers: dict[str, Callable[[bytes], bytes]] = {
        "xz": lzma.compress,
        "gz": lambda octets: gzip.compress(octets, mtime=0),
        "": bytes,
    }
    pack = packers[compression]
    suffix = f".{compression}" if compression else ""
    return ar(
        {
            "debian-binary": b"2.0\n",
            f"control.tar{suffix}": pack(_tar(files)),
            f"data.tar{suffix}": pack(_tar(entries)),
        }
    )


def ar(members: Mapping[str, bytes]) -> bytes:
    """An ar archive as dpkg writes it."""
    archive = b"!<arch>\n"
    for name, body in members.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode() + body
        archive += b"\n" * (len(body) % 2)
    return archive


def wheel(files: Mapping[str, bytes], executable: Sequence[str] = ()) -> bytes:
    """A wheel with these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(info, content)
    return stream.getvalue()


def sdist(top: str, files: Mapping[str, bytes]) -> bytes:
    """A source distribution with these files below the folder *top*."""
    return gzip.compress(_tar([member(f"{top}/{name}", content) for name, content in files.items()]), mtime=0)


def _tar(entries: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()
