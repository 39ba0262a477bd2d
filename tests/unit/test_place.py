"""Which system the tasks change, and how they hold the configuration file."""

import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from tests.cloud import CONFIG, TOML
from tests.nobody import be_nobody
from twinmail.errors import ConfigError, PermanentError
from twinmail.local.state import State
from twinmail.tasks import place


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    be_nobody(monkeypatch, tmp_path)


def test_no_system_and_no_credentials_is_one_line_with_the_remedy() -> None:
    with pytest.raises(PermanentError) as error:
        place.find(CONFIG, "", aws=False)
    assert str(error.value) == (
        "no system runs here, and the AWS SDK finds no credentials; start one with: ./inv up"
    )
    with pytest.raises(PermanentError, match=r"^the AWS SDK finds no credentials; see: aws configure list$"):
        place.find(CONFIG, "", aws=True)


def test_state_folder_that_was_named_is_never_exchanged_for_aws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(PermanentError, match="no system runs here; start one"):
        place.find(CONFIG, str(tmp_path / "state"), aws=False)


def test_credentials_lead_to_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    found = place.find(CONFIG, "", aws=False)
    assert (found.name, found.state) == ("AWS, eu-central-1", None)
    assert found.mail_of(CONFIG, "ann") == [
        "primary: /var/mail/twinmail/ann",
        "backup: /var/mail/twinmail/ann",
        "s3://tests-example-mail/processed/",
    ]


def test_both_at_once_is_refused() -> None:
    with pytest.raises(PermanentError, match="--aws and --state"):
        place.find(CONFIG, "/somewhere", aws=True)


def test_configuration_of_the_running_system_is_the_one_to_change(tmp_path: Path) -> None:
    assert place.config_file("") == tmp_path / "twinmail.toml"
    root = State.of_checkout(tmp_path).root
    root.mkdir(parents=True)
    (root / "system.json").write_text(
        '{"pid": 1, "runtime": "x", "endpoint": "x", "region": "x", "edge": {}, "submission": {}, '
        '"servers": {}, "ca": "x", "config": "/else/mine.toml"}'
    )
    assert place.config_file("") == Path("/else/mine.toml")
    assert place.config_file("other.toml") == Path("other.toml").absolute()


def test_file_keeps_its_mode_and_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text(TOML)
    real.chmod(0o640)
    link.symlink_to(real)
    with place.editing(link) as file:
        file.write(file.text + "# more\n")
    assert link.is_symlink()
    assert real.read_text().endswith("# more\n")
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_one_task_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "twinmail.toml"
    path.write_text(TOML)
    entered = threading.Event()

    def other() -> None:
        with place.editing(path) as file:
            entered.set()
            assert file.text.endswith("# first\n"), "it read before the first was done"

    with place.editing(path) as file:
        thread = threading.Thread(target=other)
        thread.start()
        descriptor = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        assert not entered.is_set()
        file.write(file.text + "# first\n")
    thread.join(30)
    assert entered.is_set()


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "twinmail.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot be read|not UTF-8"), place.editing(path):
        pass


def test_a_profile_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mistyped")
    with pytest.raises(
        PermanentError, match=r"config profile \(mistyped\) could not be found; see AWS_PROFILE"
    ):
        place.find(CONFIG, "", aws=True)
