"""The Lambda function's zip: only what it imports, equal to the octet wherever it is made."""

import ast
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinmail.config import FILE

ENTRY = "handler.py"

# The earliest time that a zip can hold; a real one would change the digest with every checkout.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR_0644 = 0o100644 << 16


@dataclass(frozen=True)
class FunctionZip:
    """The zip's octets and their digest (64 hexadecimal digits)."""

    data: bytes
    sha256: str

    @property
    def key(self) -> str:
        """Object key: a changed function is a changed key, which is what makes CloudFormation update it."""
        return f"function/{self.sha256}.zip"


def build_function(source: Path, entry: Path, config_file: Path) -> FunctionZip:
    """Build the zip from the package's folder *source* (``src``), the *entry* file and the configuration."""
    files = {ENTRY: entry.read_bytes(), FILE: config_file.read_bytes()}
    for path in _modules(source, entry):
        files[path.relative_to(source).as_posix()] = path.read_bytes()
    data = pack(files)
    return FunctionZip(data, hashlib.sha256(data).hexdigest())


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip of *files* by name: sorted, without times, and stored.

    Stored, not deflated: zlib's output differs between versions, and the whole is some tens of kilobytes.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system = 3
            member.external_attr = _REGULAR_0644
            archive.writestr(member, files[name])
    return buffer.getvalue()


def _modules(source: Path, entry: Path) -> list[Path]:
    """The files of our package that *entry* imports, directly or not."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        for path in _imported(source, waiting.pop()):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return sorted(found)


def _imported(source: Path, path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        elif isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        else:
            continue
        for name in names:
            yield from _files(source, name)


def _files(source: Path, name: str) -> Iterator[Path]:
    """The module *name* and the packages it lies in, if they are ours."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        base = source.joinpath(*parts[:depth])
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                yield candidate
