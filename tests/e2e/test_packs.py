"""Packs by hand, in a system that runs."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Running
from tests.e2e.test_faults import message
from tests.e2e.test_sending import Commands
from twinmail.local.state import Claim


@pytest.fixture(scope="module")
def commands(running: Running) -> Iterator[Commands]:
    claim = Claim(running.state)
    assert claim.take()
    yield Commands(running)
    claim.release()


def test_turn_by_hand_leaves_today_as_it_is(running: Running, commands: Commands) -> None:
    accepted = running.sender.send(message("today"), ["ann@example.org"])
    running.assert_once("ann", accepted)
    dry = commands.run("pack", "--dry-run")
    assert dry.returncode == 0 and dry.stdout.startswith("would write 0 packs: 0 entries"), dry.stderr
    done = commands.run("pack", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["packs"], said["entries"], said["octets"], said["broken"]) == (0, 0, 0, [])
    assert set(said) == {"packs", "entries", "octets", "waiting", "tagged", "broken", "dry_run"}
