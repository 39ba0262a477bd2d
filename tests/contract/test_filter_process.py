"""A syncer whose mailbox has a script, as a process against S3: killed at every step, and without Dovecot.

A stub answers for Pigeonhole, so that the answer can be anything; the real one is asked in the image's tests
and in the whole system's.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.localstack_process import LocalStackProcess
from tests.log_simulator import until
from tests.pigeonhole_stub import PigeonholeStub
from tests.syncer_process import Log, SyncerProcess
from twinmail.filter.decision import PREFIX, Decision
from twinmail.sync.steps import STEPS

SCRIPT = 'require ["fileinto", "copy", "imap4flags"]; what the stub answers'
# A copy in INBOX, one with flags and a keyword, one with a keyword alone.
FILES = {
    "Maildir/new/1.x": b"",
    "Maildir/.Vereine.B&APw-ro e%2eV%2e/cur/2.x:2,FSa": b"",
    "Maildir/.Vereine.B&APw-ro e%2eV%2e/dovecot-keywords": b"0 wichtig\n",
    "Maildir/.Lists/cur/3.x:2,b": b"",
    "Maildir/.Lists/dovecot-keywords": b"0 other\n1 $label1\n",
}
PLACES = {("", ""), (".Vereine.B&APw-ro e%2eV%2e", "FSa"), (".Lists", "a")}


@pytest.fixture
def log(localstack: LocalStackProcess) -> Log:
    return Log(localstack)


Start = Callable[..., SyncerProcess]


@pytest.fixture
def server(log: Log, tmp_path: Path) -> Iterator[Start]:
    """Makes a server with a script for ann, by name."""
    made: dict[str, SyncerProcess] = {}

    def get(name: str = "first") -> SyncerProcess:
        if name not in made:
            made[name] = SyncerProcess(log, tmp_path / name)
            activate(made[name])
        return made[name]

    yield get
    for one in made.values():
        one.stop()


def activate(syncer: SyncerProcess) -> None:
    home = syncer.root / "mail" / "ann"
    (home / "sieve").mkdir(parents=True)
    (home / "sieve" / "main.sieve").write_text(SCRIPT)
    (home / ".dovecot.sieve").symlink_to("sieve/main.sieve")


def stub(syncer: SyncerProcess, **told: object) -> PigeonholeStub:
    return PigeonholeStub(syncer.root / "mail", **{"files": FILES, **told})  # type: ignore[arg-type]


def places(syncer: SyncerProcess, ses_name: str = "") -> set[tuple[str, str]]:
    """Folder and flags of each copy of the messages whose name has *ses_name*."""
    found = [path for path in syncer.files() if path.parent.name in ("new", "cur") and ses_name in path.name]
    root = syncer.inside / "mail" / "ann" / "Maildir"
    result = set()
    for path in found:
        name, _, flags = path.name.partition(":2,")
        folder = path.parent.parent
        result.add(("" if folder == root else folder.name, flags))
        assert (path.parent.name == "cur") == bool(flags), name
    assert len(found) == len(result), found
    return result


def decisions(log: Log) -> dict[str, Decision]:
    pages = log._s3.get_paginator("list_objects_v2").paginate(Bucket=log.bucket, Prefix=PREFIX)
    keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
    return {
        key: Decision.from_bytes(log._s3.get_object(Bucket=log.bucket, Key=key)["Body"].read())
        for key in keys
    }


# Each copy reaches the step "linked"; a kill after the first, the second and the third of them differ.
CRASHES = [*((step, 1) for step in STEPS), ("linked", 2), ("linked", 3)]


@pytest.mark.parametrize(("step", "count"), CRASHES)
def test_killed_between_any_two_steps(server: Start, log: Log, step: str, count: int) -> None:
    syncer = server()
    log.add()
    with stub(syncer) as pigeonhole:
        syncer.start("--crash-at", f"{step}:{count}")
        assert syncer.wait() == -9
        # Whatever the script says by now: what is decided is decided.
        if step not in ("read", "staged"):
            pigeonhole.files = {"Maildir/.Other/new/1.x": b""}
        syncer.start()
        until(lambda: places(syncer) == PLACES, "all copies", 60)
        syncer.until_settled()
    assert places(syncer) == PLACES
    assert len(decisions(log)) == 1
    assert not list((syncer.root / "mail" / "ann" / "copies").glob("*"))
    assert not list((syncer.root / "mail" / ".server" / "decide").iterdir())
    assert not list((syncer.root / "mail" / "ann" / "Maildir" / "tmp").iterdir())


def test_two_servers_do_the_same(server: Start, log: Log) -> None:
    first, second = server("first"), server("second")
    log.add()
    with stub(first), stub(second, files={"Maildir/.Elsewhere/new/1.x": b""}) as asked:
        first.start()
        until(lambda: places(first) == PLACES, "the first", 60)
        second.start()
        until(lambda: places(second) == PLACES, "the second", 60)
    assert asked.received == []
    names = [{path.name.partition(":")[0] for path in one.files()} for one in (first, second)]
    assert names[0] == names[1] and len(names[0]) == 1


def test_everything_local_lost(server: Start, log: Log) -> None:
    syncer = server()
    log.add()
    with stub(syncer):
        syncer.start("--no-push")
        until(lambda: places(syncer) == PLACES, "delivered", 60)
        syncer.until_settled()
        assert syncer.stop() == 0
    for name in ("mail", "state"):
        shutil.rmtree(syncer.root / name)
        (syncer.root / name).mkdir()
    activate(syncer)
    # Nobody needs to be asked again.
    syncer.start("--no-push")
    until(lambda: places(syncer) == PLACES, "delivered again", 60)
    assert len(decisions(log)) == 1


def test_ledger_lost(server: Start, log: Log) -> None:
    syncer = server()
    log.add()
    with stub(syncer):
        syncer.start("--no-push")
        until(lambda: places(syncer) == PLACES, "delivered", 60)
        syncer.until_settled()
        assert syncer.stop() == 0
        shutil.rmtree(syncer.root / "state")
        (syncer.root / "state").mkdir()
        (syncer.root / "mail" / "ann" / "delivered.journal").unlink()
        syncer.start("--no-push")
        syncer.until_settled()
    assert places(syncer) == PLACES


def test_dovecot_is_away_for_a_while(server: Start, log: Log) -> None:
    syncer = server()
    log.add()
    log.add(mailboxes=("bob",))
    syncer.start()
    # Who has no script does not wait.
    syncer.until_files(1, "bob")
    until(lambda: syncer.said("failed"), "asked in vain", 60)
    assert "is Dovecot running" in syncer.said("failed")[0]["error"] and syncer.files() == []
    with stub(syncer):
        until(lambda: places(syncer) == PLACES, "delivered", 60)
    assert syncer.status()["filters"] == {"asked": 1}


def test_message_that_dovecot_refuses(server: Start, log: Log) -> None:
    syncer = server()
    log.add()
    with stub(syncer, replies={"LAST": "552 5.2.3 too large"}):
        syncer.start()
        until(lambda: places(syncer) == {("", "")}, "delivered unfiltered", 60)
    assert syncer.said("not filtered") and syncer.status()["filters"] == {"unfiltered": 1}
