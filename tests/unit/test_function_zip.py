"""The function's zip: what is in it, that it is always the same, and that it starts on its own."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cloud import TOML
from twinmail.function_zip import FunctionZip, build_function

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def function(tmp_path: Path) -> FunctionZip:
    return build(tmp_path)


def build(folder: Path, configuration: str = TOML) -> FunctionZip:
    (folder / "twinmail.toml").write_text(configuration)
    return build_function(PROJECT / "src", PROJECT / "lambda" / "handler.py", folder / "twinmail.toml")


def names(function: FunctionZip) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(function.data)).namelist())


def test_only_what_the_function_imports_is_in_it(function: FunctionZip) -> None:
    found = names(function)
    assert {"handler.py", "twinmail.toml", "twinmail/__init__.py", "twinmail/processor.py"} <= found
    outside = ("twinmail/sync/", "twinmail/oci/", "twinmail/runtime/", "twinmail/tasks/", "twinmail/local/")
    assert not [one for one in found if one.startswith(outside)]
    assert not {"twinmail/stack.py", "twinmail/maildir.py"} & found
    assert len(function.data) < 200_000


def test_same_sources_give_the_same_octets_elsewhere_and_later(function: FunctionZip, tmp_path: Path) -> None:
    for path in [*(PROJECT / "src" / "twinmail").rglob("*.py"), PROJECT / "lambda" / "handler.py"]:
        copy = tmp_path / "elsewhere" / path.relative_to(PROJECT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o600)
    place = tmp_path / "elsewhere"
    again = build_function(place / "src", place / "lambda" / "handler.py", tmp_path / "twinmail.toml")
    assert again == function and again.key == f"function/{function.sha256}.zip"


def test_changed_configuration_is_a_changed_key(function: FunctionZip, tmp_path: Path) -> None:
    assert build(tmp_path, TOML + "# changed\n").key != function.key


def test_zip_starts_with_nothing_else_of_ours(function: FunctionZip, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    zipfile.ZipFile(io.BytesIO(function.data)).extractall(folder)
    # -I: no path of ours, no environment; the region is what Lambda would give.
    code = (
        "import os, sys; sys.path = [one for one in sys.path if not one.endswith('/src')]\n"
        f"sys.path.insert(0, {str(folder)!r}); os.environ['AWS_DEFAULT_REGION'] = 'eu-central-1'\n"
        "import handler, twinmail\n"
        "print(handler.CONFIG.function, twinmail.__file__)"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["tests-processor", str(folder / "twinmail" / "__init__.py")], (
        result.stderr
    )


def test_handler_is_short_and_reads_no_environment() -> None:
    text = (PROJECT / "lambda" / "handler.py").read_text()
    assert len(text.splitlines()) <= 50 and "environ" not in text
