"""The runbooks, followed word by word on a system that runs here."""

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.runbook import FOLDER, Desk, commands
from twinmail.local.state import Claim, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import available, choose
from twinmail.tasks.config import PROJECT

# In this order: the last one ends the system.
PAGES = ("first-day.md", "add-a-user.md", "add-a-domain.md", "rotate-secrets.md", "restore.md", "leave.md")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("runbooks")
    config = folder / "twinmail.toml"
    shutil.copyfile(PROJECT / "twinmail.toml", config)
    checkout = State.of_checkout(PROJECT)
    state = State(root=folder / ".twinmail" / "local", images=checkout.images, layers=checkout.layers)
    runtime = choose(available()[0], state.root, state.layers)
    system = LocalSystem(state, config, runtime, host_platform(), ephemeral_ports=True)

    def lose_the_backup() -> None:
        for service in ("web", "php", "relay", "syncer", "dovecot"):
            system.stop_container(f"backup-{service}")
        for path in (state.maildirs("backup"), state.ledger("backup")):
            shutil.rmtree(path)
        system._prepare()
        for service in ("dovecot", "syncer", "relay", "php"):
            system.restart(f"backup-{service}")

    try:
        system.start()
        claim = Claim(state)
        assert claim.take()
        yield Desk(folder, state.root, config, {"the backup loses its volumes": lose_the_backup})
        claim.release()
    finally:
        system.stop()
        assert not runtime.remove_leftovers()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_works_and_prints_what_the_page_shows(desk: Desk, page: str) -> None:
    assert desk.follow(page) > 1


def test_nothing_that_runs_is_forgotten() -> None:
    assert {path.name for path in FOLDER.glob("*.md") if list(commands(path))} == set(PAGES)
