"""What twinmail.toml says of a server is what its Dovecot and its syncer are told."""

from pathlib import Path
from unittest import mock

import pytest

from tests.cloud import TOML
from twinmail.local import dovecot
from twinmail.local.state import State
from twinmail.local.system import LocalSystem

OFF = "mail_plugins {\n  fts = no\n  fts_flatcurve = no\n}\n"


@pytest.mark.parametrize("on", [True, False])
def test_search_index_is_turned_off_by_one_block(on: bool) -> None:
    assert (OFF in dovecot.local_conf(1, 2, full_text_search=on)) is not on


def test_one_setting_turns_it_off_on_one_server(tmp_path: Path) -> None:
    config_file = tmp_path / "twinmail.toml"
    config_file.write_text(f"{TOML}full_text_search = false\n")  # the table at its end is the backup's
    state = State(tmp_path / "local", tmp_path / "images", tmp_path / "layers")
    system = LocalSystem(state, config_file, mock.Mock(), "linux/amd64", ephemeral_ports=True)
    system._prepare()
    said = {name: (state.settings(name) / dovecot.FILE).read_text() for name in ("primary", "backup")}
    assert OFF not in said["primary"]
    assert OFF in said["backup"]
