"""Compiling Python to ``.pyc`` on the build host, by the very interpreter that the image holds.

The host's own Python may be another version, so the interpreter comes unpacked from the image's locked
Debian packages *for the host's platform*; its bytecode is the same on every platform. Nothing of the target
platform runs. Equal sources give equal octets: one fresh process compiles each package, in sorted order,
with a fixed hash seed, since what `marshal` writes depends on what the process has seen.
"""

import hashlib
import os
import platform
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from twinmail.errors import PermanentError
from twinmail.oci import deb
from twinmail.oci.elf import LIBRARY_FOLDERS, parse
from twinmail.oci.tree import Node, file
from twinmail.oci.unpacked import extract

# `platform.machine` by platform.
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}

_LENGTH = struct.Struct("<I")

# Runs in the locked interpreter: frames of path and source in, frames of pyc out (empty: does not compile).
# The header is PEP 552's for hash-based files that are never checked against their source.
_PROGRAM = """
import sys
sys.dont_write_bytecode = True
import importlib.util, marshal, struct, warnings
warnings.simplefilter("ignore")
sys.setrecursionlimit(20000)
tag = sys.implementation.cache_tag.encode()
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
stdout.write(struct.pack("<I", len(tag)) + tag)
while head := stdin.read(4):
    path = stdin.read(struct.unpack("<I", head)[0]).decode()
    source = stdin.read(struct.unpack("<I", stdin.read(4))[0])
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        body = marshal.dumps(code)
    except (SyntaxError, ValueError, RecursionError, UnicodeError):
        pyc = b""
    else:
        pyc = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(source) + body
    stdout.write(struct.pack("<I", len(pyc)) + pyc)
"""


class BytecodeError(PermanentError):
    """The locked interpreter cannot run on this machine."""


def host_platform() -> str:
    """The platform of this machine as OCI names it.

    Raises:
        BytecodeError: it is none that images are built on.
    """
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        raise BytecodeError(
            f"this machine is {platform.system()} on {platform.machine()}; images with Python are built "
            f"on Linux on {' or '.join(MACHINES)}, because their interpreter compiles the modules"
        )
    return MACHINES[platform.machine()]


def interpreter_packages(names: Sequence[str]) -> tuple[str, ...]:
    """Of *names*, the packages that the interpreter needs to compile; empty if there is none."""
    versions = sorted(name for name in names if name.startswith("python3.") and name.endswith("-minimal"))
    if not versions:
        return ()
    return (versions[-1], f"lib{versions[-1]}", "libc6", "zlib1g", "libexpat1")


@dataclass(frozen=True)
class Interpreter:
    """An unpacked interpreter.

    Attributes:
        identity: hex digest of the packages it consists of.
        argv: how to start it.
        environment: its whole environment.
    """

    identity: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def prepare(cls, packages: Mapping[str, Path], folder: Path) -> "Interpreter":
        """Unpack *packages* (paths of ``.deb`` files by name, see `interpreter_packages`) below *folder*.

        Raises:
            BytecodeError: this machine cannot run it.
        """
        host = host_platform()
        identity = hashlib.sha256(
            "\n".join(sorted(path.name for path in packages.values())).encode()
        ).hexdigest()
        place = folder / identity
        if not place.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as name:
                partial = Path(name) / "root"
                for path in packages.values():
                    extract(deb.unpack(path).nodes, partial)
                try:
                    partial.rename(place)
                except OSError:  # another build was faster
                    if not place.is_dir():
                        raise
        program = next(one for one in sorted(packages) if one.startswith("python3.")).removesuffix("-minimal")
        return cls(
            identity, _start(place, program, host), {"PYTHONHOME": str(place / "usr"), "PYTHONHASHSEED": "0"}
        )

    def compile(self, sources: Mapping[str, bytes]) -> dict[str, bytes]:
        """Compile *sources* by path in the image; return ``.pyc`` files by theirs.

        Raises:
            BytecodeError: the interpreter does not run here.
        """
        frames = bytearray()
        for path in sorted(sources):
            name = f"/{path}".encode()
            frames += _LENGTH.pack(len(name)) + name + _LENGTH.pack(len(sources[path])) + sources[path]
        argv = [*self.argv, "-S", "-s", "-P", "-X", "utf8", "-c", _PROGRAM]
        try:
            done = subprocess.run(
                argv, input=frames, capture_output=True, env=dict(self.environment), check=False
            )
        except OSError as error:
            raise BytecodeError(
                f"{self.argv[0]}: {error.strerror}; the locked interpreter cannot run here"
            ) from error
        output = list(_frames(done.stdout))
        if done.returncode != 0 or len(output) != len(sources) + 1:
            text = done.stderr.decode(errors="replace").strip() or f"ended with {done.returncode}"
            raise BytecodeError(f"{self.argv[-1]}: the locked interpreter cannot compile here: {text}")
        tag = output[0].decode()
        return {_place(path, tag): pyc for path, pyc in zip(sorted(sources), output[1:], strict=True) if pyc}


class Compiler:
    """Compiles in the background, each distinct set of sources once, and keeps the results in a folder."""

    def __init__(self, interpreter: Interpreter, cache: Path, pool: ThreadPoolExecutor) -> None:
        self._interpreter = interpreter
        self._cache = cache
        self._pool = pool
        self._lock = threading.Lock()
        self._jobs: dict[str, Future[dict[str, bytes]]] = {}

    @property
    def identity(self) -> str:
        """What the interpreter consists of; other interpreters make other bytecode."""
        return self._interpreter.identity

    def submit(self, sources: Mapping[str, bytes]) -> Callable[[], list[Node]]:
        """Start to compile; the returned function waits for the entries to add."""
        key = self._key(sources)
        with self._lock:
            if key not in self._jobs:
                self._jobs[key] = self._pool.submit(self._compile, key, dict(sources))
            job = self._jobs[key]
        return lambda: [file(path, pyc) for path, pyc in sorted(job.result().items())]

    def _key(self, sources: Mapping[str, bytes]) -> str:
        digest = hashlib.sha256(f"{self._interpreter.identity}\n{_PROGRAM}".encode())
        for path in sorted(sources):
            digest.update(f"\n{path}\0{hashlib.sha256(sources[path]).hexdigest()}".encode())
        return digest.hexdigest()

    def _compile(self, key: str, sources: Mapping[str, bytes]) -> dict[str, bytes]:
        kept = self._cache / key
        if kept.is_file():
            os.utime(kept)  # in use: see `twinmail.oci.shelf.clear_unused`
            return _unpack(kept.read_bytes())
        result = self._interpreter.compile(sources)
        self._cache.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".bytecode-", dir=self._cache)
        with os.fdopen(handle, "wb") as stream:
            for path, pyc in result.items():
                name_octets = path.encode()
                stream.write(_LENGTH.pack(len(name_octets)) + name_octets + _LENGTH.pack(len(pyc)) + pyc)
        Path(name).replace(kept)
        return result


def _unpack(octets: bytes) -> dict[str, bytes]:
    frames = list(_frames(octets))
    return {path.decode(): pyc for path, pyc in zip(frames[::2], frames[1::2], strict=True)}


def _frames(octets: bytes) -> Iterator[bytes]:
    position = 0
    while position + _LENGTH.size <= len(octets):
        (length,) = _LENGTH.unpack_from(octets, position)
        position += _LENGTH.size
        yield octets[position : position + length]
        position += length


def _place(path: str, tag: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc"


def _start(root: Path, program: str, host: str) -> tuple[str, ...]:
    """The command line that runs *program* of *root* with its own dynamic linker and libraries."""
    binary = root / "usr/bin" / program
    found = parse(binary.read_bytes())
    if found is None or not found.interpreter:
        raise BytecodeError(f"{binary} is no program; expected the interpreter for {host}")
    linker = (root / "usr" / found.interpreter.lstrip("/")).resolve()
    libraries = ":".join(str(root / one) for one in LIBRARY_FOLDERS[host])
    return (str(linker), "--library-path", libraries, str(binary))
