"""Decisions carried out by the whole service, on a disk and with a folder that fail at the worst moment."""

import errno
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import CONFIG
from tests.log_simulator import LogSimulator, StateSimulator, moment, until
from twinmail.config import Limits
from twinmail.filter.decision import Placement
from twinmail.filter.pigeonhole import Answer, Question
from twinmail.keyword_file import LOCK
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir
from twinmail.sync.carrier import Carrier
from twinmail.sync.decisions import Decisions, Desk
from twinmail.sync.health import metrics
from twinmail.sync.log import Log
from twinmail.sync.outage import Outage
from twinmail.sync.outcome import Outcome
from twinmail.sync.service import Options, Service

BODY = b"Subject: hello\r\n\r\nbody\r\n"
COPIES = (Placement("INBOX"), Placement("A", "F"), Placement("B", "", ("wichtig",)))
PLACES = ["A/cur F", "B/cur a", "INBOX/new "]


@dataclass
class Asked:
    placements: tuple[Placement, ...] = COPIES
    complaints: tuple[str, ...] = ()
    questions: list[Question] = field(default_factory=list)

    def ask(self, question: Question) -> Answer:
        self.questions.append(question)
        return Answer(self.placements, (), self.complaints)


class Server:
    """A carrier on folders of its own, whose mailbox ann has a script."""

    def __init__(self, root: Path) -> None:
        self.mail, self.state = root / "mail", root / "state"
        home = self.mail / "ann"
        (home / "sieve").mkdir(parents=True)
        self.state.mkdir()
        (home / "sieve" / "main.sieve").write_text("keep;")
        (home / ".dovecot.sieve").symlink_to("sieve/main.sieve")
        self.source, self.asked, self.output = LogSimulator(), Asked(), io.StringIO()
        self.log = Log(self.output)
        self.store = StateSimulator()
        desk = Desk(self.store, self.asked, self.mail, lambda entry, mailbox: "ann@example.org", "primary")
        self.decisions = Decisions(desk, self.log)
        self.ledger = Ledger(self.state, self.mail)
        self.disk = Outage("disk", self.log)
        self.carrier = Carrier(
            self.source,
            self.ledger,
            self.mail,
            Limits(),
            self.log,
            Outage("s3", self.log),
            self.disk,
            decisions=self.decisions,
        )

    def carry(self, key: str) -> Outcome:
        return self.carrier.carry(key, "test").result(30)

    def add(self, name: str = "m1") -> str:
        return self.source.add(name, BODY, moment(-1))

    def places(self) -> list[str]:
        root = self.mail / "ann" / "Maildir"
        found = []
        for path in root.rglob("*.twinmail,*"):
            folder = path.parent.parent
            name = "INBOX" if folder == root else folder.name[1:]
            found.append(f"{name}/{path.parent.name} {path.name.partition(':2,')[2]}")
        return sorted(found)

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.output.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("twinmail.sync.retries.pause", lambda attempts, base, cap: 0.0)
    server = Server(tmp_path)
    yield server
    server.carrier.stop(5)
    server.ledger.close()


def failing(method: Callable[..., Any], number: int) -> Callable[..., Any]:
    """*method*, whose call *number* finds the disk full."""
    calls = iter(range(1, 1000))

    def called(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return method(*arguments, **options)

    return called


def test_every_copy_has_its_flags_and_keywords(server: Server) -> None:
    assert server.carry(server.add()) is Outcome.FINISHED
    assert server.places() == PLACES
    told = server.said("delivered")[0]
    assert told["folder"] == "INBOX" and told["mailbox"] == "ann"
    assert (server.mail / "ann" / "Maildir" / ".B" / "dovecot-keywords").read_text() == "0 wichtig\n"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_disk_that_is_full_between_two_copies(
    server: Server, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    key = server.add()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", failing(Path.hardlink_to, number))
        assert server.carry(key) is Outcome.FAILED
    assert server.disk.trouble and len(server.places()) == number - 1
    # Its user reads the first copy before there is room again.
    read = list((server.mail / "ann" / "Maildir" / "new").iterdir())
    for path in read:
        path.rename(path.parent.parent / "cur" / f"{path.name}:2,S")
    assert server.carry(key) is Outcome.FINISHED
    assert server.places() == (["A/cur F", "B/cur a", "INBOX/cur S"] if read else PLACES)
    assert len(server.asked.questions) == 1
    assert not list((server.mail / "ann" / "copies").iterdir())


def test_a_folder_that_dovecot_works_on_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinmail.dotlock._WAIT_SECONDS", 0.05)
    folder = server.mail / "ann" / "Maildir" / ".B"
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True)
    (folder / LOCK).write_text("1:dovecot")
    key = server.add()
    assert server.carry(key) is Outcome.FAILED
    # None of the copies is there before all can be made.
    assert server.places() == [] and "held for more than" in server.said("failed")[0]["error"]
    (folder / LOCK).unlink()
    assert server.carry(key) is Outcome.FINISHED and server.places() == PLACES


def test_a_folder_that_its_user_deleted_is_made_again(server: Server) -> None:
    server.asked.placements = (Placement("A"),)
    server.carry(server.add("m1"))
    folder = server.mail / "ann" / "Maildir" / ".A"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    key = server.add("m2")
    until(lambda: server.carry(key) is Outcome.FINISHED, "delivered", 10)
    assert server.places() == ["A/new "]


def test_folders_that_a_script_makes_are_subscribed_and_others_are_left_alone(server: Server) -> None:
    Maildir(server.mail / "ann" / "Maildir").prepare("Unwanted")
    server.asked.placements = (Placement("Lists.x"), Placement("Unwanted"), Placement("Trash"))
    server.carry(server.add())
    assert (server.mail / "ann" / "Maildir" / "subscriptions").read_bytes() == b"V\t2\n\nLists\tx\n"


def test_operators_see_how_filtering_goes(server: Server) -> None:
    server.asked.complaints = ("line 1: error: what",)
    server.carry(server.add())
    options = Options("primary", server.mail, server.state)
    service = Service(CONFIG, options, server.source, None, server.log, decisions=server.decisions)
    status = service.status()
    assert status["filters"] == {"asked": 1, "broken": 1}
    assert status["broken_scripts"] == {"ann": "line 1: error: what"}
    lines = metrics(status).splitlines()
    assert 'twinmail_syncer_filter_total{what="broken"} 1' in lines
    assert "twinmail_syncer_broken_scripts 1" in lines
