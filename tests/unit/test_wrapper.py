"""``inv``: makes the venv by itself, once and on change, in any folder."""

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wrapper needs, at a path with a space and an umlaut, with one small requirement."""
    folder = tmp_path_factory.mktemp("wrapper") / "my mäil folder"
    folder.mkdir()
    shutil.copy(PROJECT / "inv", folder / "inv")
    (folder / "tasks.py").write_text("import sys\nimport wheel\nprint('tasks', sys.argv[1:], sys.prefix)\n")
    shutil.copy(PROJECT / "requirements-build.lock", folder)
    (folder / "requirements.lock").write_text("")
    return folder


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "inv", *arguments], cwd="/", capture_output=True, text=True, check=False, timeout=240
    )


def test_first_run_makes_the_venv_and_later_runs_do_not(checkout: Path) -> None:
    first = run(checkout, "send", "a b")
    assert first.returncode == 0, first.stderr
    assert "setting up .venv" in first.stderr
    assert first.stdout.startswith(f"tasks ['send', 'a b'] {checkout}/.venv")
    second = run(checkout)
    assert second.stderr == ""
    assert second.stdout.startswith("tasks ['--list']")


def test_a_changed_lock_makes_it_again(checkout: Path) -> None:
    run(checkout)
    (checkout / "requirements.lock").write_text("# changed\n")
    assert "setting up .venv" in run(checkout).stderr
    assert run(checkout).stderr == ""


def test_a_requirement_without_its_hash_is_refused(checkout: Path) -> None:
    lock = checkout / "requirements.lock"
    before = lock.read_text()
    lock.write_text("six==1.17.0\n")
    result = run(checkout)
    assert result.returncode == 1
    assert "requirements.lock could not be installed" in result.stderr
    lock.write_text(before)
