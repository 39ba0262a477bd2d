"""A configuration that follows its file."""

from pathlib import Path

import pytest

from twinmail import live_config
from twinmail.errors import ConfigError

BASE = 'region = "eu-central-1"\nstack = "twinmail"\nbucket = "{bucket}"\ndomains = ["example.org"]\n'
ANN = '[mailboxes.ann]\naddresses = ["ann@example.org"]\n'
BOB = '[mailboxes.bob]\naddresses = ["bob@example.org"]\n[aliases]\n"team@example.org" = ["ann", "bob"]\n'
REST = '[servers.primary]\nplatform = "linux/amd64"\nhost = "primary.example.org"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(live_config, "SECONDS", 0.0)
    path = tmp_path / "twinmail.toml"
    path.write_text(text(ANN))
    return path


def text(boxes: str, bucket: str = "example-mail") -> str:
    return BASE.format(bucket=bucket) + boxes + REST


def test_new_mailbox_and_alias_are_seen(file: Path) -> None:
    config = live_config.follow(file, lambda said: pytest.fail(said))
    assert list(config.mailboxes) == ["ann"]
    file.write_text(text(ANN + BOB))
    assert list(config.mailboxes) == ["ann", "bob"]
    assert config.addresses_of("bob") == ("bob@example.org", "team@example.org")
    assert len(config.aliases) == 1


def test_removed_mailbox_is_gone_and_ends_no_loop(file: Path) -> None:
    file.write_text(text(ANN + BOB))
    config = live_config.follow(file, lambda said: pytest.fail(said))
    names = iter(config.mailboxes)
    file.write_text(text(ANN))
    assert list(names) == ["ann", "bob"]
    assert "bob" not in config.mailboxes


def test_wrong_file_changes_nothing_and_is_said_once(file: Path) -> None:
    said: list[str] = []
    config = live_config.follow(file, said.append)
    file.write_text("broken")
    assert list(config.mailboxes) == ["ann"]
    assert list(config.mailboxes) == ["ann"]
    assert len(said) == 1
    assert "going on with the configuration of before" in said[0]
    file.unlink()
    assert list(config.mailboxes) == ["ann"]
    file.write_text(text(ANN + BOB))
    assert list(config.mailboxes) == ["ann", "bob"]


def test_what_a_service_cannot_change_stays(file: Path) -> None:
    config = live_config.follow(file, lambda said: pytest.fail(said))
    file.write_text(text(ANN + BOB, bucket="another-bucket"))
    assert list(config.mailboxes) == ["ann", "bob"]
    assert config.bucket == "example-mail"


def test_wrong_at_the_start(file: Path) -> None:
    file.write_text("broken")
    with pytest.raises(ConfigError):
        live_config.follow(file, lambda said: None)
