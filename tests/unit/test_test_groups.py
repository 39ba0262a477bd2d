"""What ``./inv test`` says before it starts."""

from pathlib import Path

import pytest

from twinmail.errors import PermanentError
from twinmail.tasks import test as groups


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
