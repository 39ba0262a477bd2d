"""Users are told that their script is broken: once, and on both servers with the same message."""

import email
import email.policy
import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from twinmail.filter.complaint import Complaint, notice
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir
from twinmail.sync.filter_notices import FilterNotices
from twinmail.sync.log import Log

TODAY = datetime.now(UTC).date()


class Complaining:
    def __init__(self) -> None:
        self.latest: dict[str, Complaint] = {}

    def say(self, text: str, mailbox: str = "ann", day: date = TODAY) -> None:
        self.latest[mailbox] = Complaint(mailbox, text, day)


class Server:
    def __init__(self, root: Path, complaining: Complaining) -> None:
        self.mail = root / "mail"
        (self.mail / "ann").mkdir(parents=True)
        (root / "state").mkdir()
        self.complaining = complaining
        self.root = root
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(self.root / "state", self.mail)
        self.chore = FilterNotices(
            self.complaining, self.ledger, self.mail, lambda name: f"{name}@example.org", Log(io.StringIO())
        )

    def notices(self) -> list[Path]:
        return sorted((self.mail / "ann" / "Maildir" / "new").glob("*"))


@pytest.fixture
def complaining() -> Complaining:
    return Complaining()


@pytest.fixture
def server(tmp_path: Path, complaining: Complaining) -> Server:
    return Server(tmp_path / "one", complaining)


def test_nothing_to_tell(server: Server) -> None:
    server.chore.turn()
    assert not (server.mail / "ann" / "Maildir").exists()


def test_told_once_even_after_a_restart_and_a_deletion(server: Server, complaining: Complaining) -> None:
    complaining.say("line 1: error: what")
    server.chore.turn()
    server.chore.turn()
    (path,) = server.notices()
    path.unlink()
    server.restart()
    server.chore.turn()
    assert server.notices() == []


def test_both_servers_show_the_same_message(server: Server, tmp_path: Path, complaining: Complaining) -> None:
    other = Server(tmp_path / "two", complaining)
    complaining.say("line 1: error: what")
    for one in (server, other):
        one.chore.turn()
    (first,), (second,) = server.notices(), other.notices()
    assert first.name == second.name and first.read_bytes() == second.read_bytes()
    assert first.name.endswith(f",S={first.stat().st_size},W={first.stat().st_size}")


def test_not_more_than_a_few_a_day(server: Server, complaining: Complaining) -> None:
    for number in range(10):
        complaining.say(f"error: {number}")
        server.chore.turn()
    assert len(server.notices()) == 3


def test_old_complaints_are_past(server: Server, complaining: Complaining) -> None:
    complaining.say("error: what", day=TODAY - timedelta(days=9))
    server.chore.turn()
    assert not (server.mail / "ann" / "Maildir").exists()


def test_a_crash_before_the_ledger_is_found_by_name(server: Server, complaining: Complaining) -> None:
    complaining.say("error: what")
    server.chore.turn()
    found = Maildir(server.mail / "ann" / "Maildir").scan()
    assert list(found) and server.ledger.mailboxes(next(iter(found))) == {"ann"}


def test_what_it_says() -> None:
    complaint = Complaint("ann", "main: line 1: error: \x1b[31m‹bad›\n" + "x" * 1000, TODAY)
    data = notice(complaint, "ann@example.org")
    told = email.message_from_bytes(data, policy=email.policy.default)
    assert told["to"] == "ann@example.org" and told["auto-submitted"] == "auto-generated"
    text = told.get_content()
    assert "main: line 1: error: ?[31m‹bad›" in text and "No mail is lost" in text
    assert all(len(line) < 400 for line in data.splitlines()) and b"\n" not in data.replace(b"\r\n", b"")
