"""What ``./inv test`` says before it starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from twinmail.errors import PermanentError
from twinmail.tasks import test as groups
from twinmail.tasks.config import PROJECT


def test_no_browser_and_no_root_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in {"sh": '#!/bin/sh\nexec /bin/sh "$@"', "id": "#!/bin/sh\necho 1000"}.items():
        program = tmp_path / name
        program.write_text(f"{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PermanentError) as caught:
        groups.find_browser()
    assert "sudo apt-get install chromium libnss3-tools" in str(caught.value)
    assert "./inv test lint unit golden fuzz contract image e2e" in str(caught.value)


def test_unknown_group_is_named() -> None:
    with pytest.raises(PermanentError, match=r"unknown test group 'end2end'; known: lint, unit, .*, browser"):
        groups.run(["end2end"], "", False, "")


def test_without_skips_a_skipped_test_has_failed(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("import pytest\n\ndef test_it():\n    pytest.skip('no engine')\n")
    python = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command = [*python, "--rootdir", str(tmp_path), str(tmp_path)]
    assert subprocess.run(command, cwd=PROJECT, capture_output=True, check=False).returncode == 0
    done = subprocess.run([*command, "--no-skips"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "test_one.py::test_it: must run here, and was skipped: Skipped: no engine" in done.stdout
    assert "--no-skips" in next(iter(groups.commands("unit", "", "", True)))
    assert PROJECT.joinpath(".ci", "run").read_text().endswith("exec ./inv test --no-skips\n")
