"""A short chaos run: the whole system, with trouble from all sides, loses nothing and shows nothing twice."""

from pathlib import Path

from twinmail.chaos.catalogue import NAMES, names_of
from twinmail.chaos.run import Run
from twinmail.local.state import State
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import available, choose
from twinmail.tasks.config import PROJECT

# From every side one, such as take effect each time: the long run has all of them.
FAULTS = (
    "events-dropped,function-killed,s3-answer-lost,dynamodb-500,network-cut-primary,"
    "syncer-killed-backup,ledger-deleted-primary,queue-purged-backup,dovecot-killed-primary,volume-full-backup"
)
SEED, MESSAGES = 20261123, 120


def test_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    # With one runtime: what is tested here is not how containers are started.
    runtime = min(available(), key=lambda name: name != "namespace")
    images = State.of_checkout(PROJECT)
    said: list[str] = []
    engine = choose(runtime, tmp_path / "local", images.layers)
    with Run(tmp_path, images, engine, host_platform(), MESSAGES, SEED, said.append) as run:
        # What is said of faults in the documentation is of those that there are.
        volumes = {"volume-full-backup", "volume-read-only-backup"}
        assert set(NAMES) - volumes <= run.faults().keys() <= set(NAMES)
        names = [one for one in names_of(FAULTS) if one in run.faults()]
        result = run.run(names)
    assert not engine.remove_leftovers()
    assert result.verdict.clean, (result.verdict, said)
    assert result.sent == MESSAGES
    # A full volume is met by the next delivery, which on a slow machine may come when it has room again.
    sure = {name: count for name, count in result.faults.items() if not name.startswith("volume-")}
    assert len(sure) > 8 and all(sure.values()), (result.faults, said)
