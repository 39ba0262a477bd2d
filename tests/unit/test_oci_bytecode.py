"""Compiling, with this very Python in the place of the locked one."""

import importlib.util
import marshal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twinmail.oci import bytecode
from twinmail.oci.bytecode import BytecodeError, Compiler, Interpreter

SOURCES = {
    "usr/lib/python3/dist-packages/a/__init__.py": b"NAMES = frozenset({'x', 'y', 'z', None, 1})\n",
    "usr/lib/python3/dist-packages/a/latin.py": "# -*- coding: latin-1 -*-\nX = 'ä'\n".encode("latin-1"),
    "usr/lib/python3/dist-packages/a/template.py": b"{% if %}\n",
    "usr/lib/python3/dist-packages/a/nul.py": b"x = 1\0\n",
}
HERE = Interpreter("here", (sys.executable,), {"PYTHONHASHSEED": "0"})


def test_pyc_files_are_never_checked_against_their_source() -> None:
    made = HERE.compile(SOURCES)
    tag = sys.implementation.cache_tag
    place = "usr/lib/python3/dist-packages/a/__pycache__"
    # What does not compile is left out, as pip leaves it out.
    assert sorted(made) == [f"{place}/__init__.{tag}.pyc", f"{place}/latin.{tag}.pyc"]
    octets = made[f"{place}/__init__.{tag}.pyc"]
    source = SOURCES["usr/lib/python3/dist-packages/a/__init__.py"]
    assert octets[:4] == importlib.util.MAGIC_NUMBER
    assert octets[4:8] == b"\1\0\0\0"  # PEP 552: hash-based, check_source not set
    assert octets[8:16] == importlib.util.source_hash(source)
    assert marshal.loads(octets[16:]).co_filename == "/usr/lib/python3/dist-packages/a/__init__.py"


def test_compiling_again_gives_the_same_octets() -> None:
    assert HERE.compile(SOURCES) == HERE.compile(dict(reversed(SOURCES.items())))


def test_results_are_kept_by_content(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = Compiler(HERE, tmp_path, pool).submit(SOURCES)()
        # An interpreter that cannot run shows that nothing is compiled again.
        broken = Interpreter("here", ("/gone",), {})
        assert Compiler(broken, tmp_path, pool).submit(SOURCES)() == first
        with pytest.raises(
            BytecodeError, match=r"^/gone: No such file or directory; the locked interpreter cannot"
        ):
            Compiler(broken, tmp_path, pool).submit({"x.py": b"other"})()
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interpreter_that_fails_is_explained() -> None:
    failing = Interpreter("x", (sys.executable, "-c", "raise SystemExit('broken')"), {})
    with pytest.raises(BytecodeError, match="the locked interpreter cannot compile here: broken"):
        failing.compile(SOURCES)


def test_machines_without_images_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(
        BytecodeError, match=r"^this machine is Linux on riscv64; images with Python are built on Linux"
    ):
        bytecode.host_platform()


def test_packages_of_the_interpreter() -> None:
    names = ["libc6", "python3.13-minimal", "libpython3.13-stdlib"]
    assert bytecode.interpreter_packages(names) == (
        "python3.13-minimal",
        "libpython3.13-minimal",
        "libc6",
        "zlib1g",
        "libexpat1",
    )
    assert bytecode.interpreter_packages(["libc6"]) == ()
