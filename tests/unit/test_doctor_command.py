"""``./inv doctor`` as a command, where there is nobody to be to AWS."""

import json
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from tests.cloud import TOML
from tests.nobody import be_nobody
from twinmail.tasks.doctor import doctor


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    be_nobody(monkeypatch, tmp_path)


def findings(capsys: pytest.CaptureFixture[str], tmp_path: Path, *checks: str) -> dict[str, dict[str, Any]]:
    (tmp_path / "twinmail.toml").write_text(TOML)
    with pytest.raises(Exit) as end:
        doctor(Context(), list(checks), config=str(tmp_path / "twinmail.toml"), json_=True)
    assert end.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "problem"
    return {one["check"]: one for one in told["findings"]}


def test_no_credentials_are_a_line_and_the_other_checks_go_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = findings(capsys, tmp_path, "credentials", "configuration")
    assert found["credentials"]["text"] == "Unable to locate credentials"
    assert "aws configure" in found["credentials"]["remedy"] and "./inv up" in found["credentials"]["remedy"]
    assert found["configuration"]["state"] == "ok"


@pytest.mark.parametrize(
    ("config", "said"), [("", "The config profile (nope) could not be found"), ("[pro", "parse config file")]
)
def test_profile_or_file_that_is_none_is_a_line_too(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    said: str,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    (tmp_path / "config").write_text(config)
    found = findings(capsys, tmp_path, "credentials", "configuration")
    assert said in found["credentials"]["text"] and found["credentials"]["remedy"]
    assert found["configuration"]["state"] == "ok"
