"""The chore that renders the password file: it follows the document, and never loses the last good file."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.log_simulator import DOWN, StateSimulator
from twinmail import password, password_file
from twinmail.accounts import KEY, Accounts, AccountsError, AppPassword, NewerAccounts
from twinmail.durable_file import NotWritten
from twinmail.sync.accounts import AccountsChore
from twinmail.sync.log import Log
from twinmail.sync.sessions import SessionsUnavailable
from twinmail.sync.source import SourceUnavailable

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
ONE = Accounts().added("ann", password.digest("one"), ["ann@example.org"], NOW)
TWO = ONE.added("bob", password.digest("two"), [], NOW)


class Server:
    """One server with its volume and the shared state."""

    def __init__(self, mail: Path) -> None:
        self.mail = mail
        self.mail.mkdir()
        self.state = StateSimulator()
        self.log = io.StringIO()
        self.ended: list[str] = []
        self.fault: Exception | None = None
        self.chore = AccountsChore(self.state, mail, Log(self.log), self.end)

    def end(self, user: str) -> None:
        if self.fault:
            raise self.fault
        self.ended.append(user)

    @property
    def file(self) -> bytes | None:
        path = self.mail / password_file.PLACE
        return path.read_bytes() if path.exists() else None

    def turn(self, data: bytes) -> None:
        self.state.put(KEY, data)
        self.chore.turn()

    def holds(self, accounts: Accounts) -> bool:
        return (self.file or b"").startswith(password_file.to_bytes(accounts))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "mail")


def test_renders_and_follows(server: Server) -> None:
    server.turn(ONE.to_bytes())
    assert server.holds(ONE)
    server.turn(TWO.to_bytes())
    assert server.holds(TWO)
    assert server.log.getvalue().count("accounts changed") == 2


def test_is_due_when_the_document_is_announced(server: Server) -> None:
    assert KEY.startswith(server.chore.prefix)
    assert server.chore.seconds < 30


def test_no_change_is_no_write_and_no_line(server: Server) -> None:
    server.turn(ONE.to_bytes())
    before = (server.mail / password_file.PLACE).stat()
    server.turn(ONE.to_bytes())
    after = (server.mail / password_file.PLACE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert server.log.getvalue().count("accounts changed") == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"garbage",
        ONE.to_bytes()[:-20],
        ONE.to_bytes() + b"x",
        b"\0" * 4096,
        json.dumps({"version": 1}).encode(),
        json.dumps({"version": 1, "users": {}}).encode(),
        json.dumps({"version": 2, "users": {}}).encode(),
        ONE.to_bytes().replace(b"argon2id$v", b"argon2id#v"),
    ],
)
def test_a_bad_document_leaves_the_last_good_file_and_is_said(server: Server, data: bytes) -> None:
    server.turn(ONE.to_bytes())
    before = server.file
    with pytest.raises(AccountsError, match="logins go on with the accounts of before"):
        server.turn(data)
    assert server.file == before
    server.turn(TWO.to_bytes())
    assert server.holds(TWO)


def test_newer_document_keeps_its_kind_of_error(server: Server) -> None:
    with pytest.raises(NewerAccounts, match="update twinmail here; nobody can log in here"):
        server.turn(b'{"version": 2}')


def test_removed_document_leaves_the_last_good_file(server: Server) -> None:
    server.turn(ONE.to_bytes())
    del server.state.objects[KEY]
    with pytest.raises(AccountsError, match="not there; logins go on"):
        server.chore.turn()
    assert server.holds(ONE)


def test_before_the_first_account_the_remedy_is_named(server: Server) -> None:
    with pytest.raises(AccountsError, match=r"nobody can log in here; .*\./inv user add NAME"):
        server.chore.turn()
    assert server.file is None


def test_outage_leaves_the_last_good_file(server: Server) -> None:
    server.turn(ONE.to_bytes())
    server.state.fault = DOWN
    with pytest.raises(SourceUnavailable):
        server.chore.turn()
    assert server.holds(ONE)


def test_volume_that_is_not_mounted_is_transient(server: Server) -> None:
    server.mail.rmdir()
    with pytest.raises(NotWritten, match="mount the volume"):
        server.turn(ONE.to_bytes())
    server.mail.mkdir()
    server.chore.turn()
    assert server.holds(ONE)


def test_file_damaged_on_the_disk_is_mended(server: Server) -> None:
    server.turn(ONE.to_bytes())
    (server.mail / password_file.PLACE).write_bytes(b"ann/:{ARG")
    server.chore.turn()
    assert server.holds(ONE)


def test_sessions_end_twice_when_a_password_is_taken_away(server: Server) -> None:
    phone = AppPassword("phone", "abcde", password.digest("phone"), NOW)
    server.turn(TWO.with_app_password("bob", phone).to_bytes())
    assert server.ended == []
    server.turn(TWO.to_bytes())
    assert server.ended == ["bob"]
    server.chore.turn()
    server.chore.turn()
    assert server.ended == ["bob", "bob"]


@pytest.mark.parametrize(
    ("after", "ended"),
    [
        (TWO.with_password("ann", password.digest("new"), NOW), ["ann"]),
        (TWO.without("bob"), ["bob"]),
        (TWO.added("carl", password.digest("carl"), [], NOW), []),
        (TWO.with_app_password("ann", AppPassword("phone", "abcde", password.digest("x"), NOW)), []),
    ],
)
def test_only_sessions_of_those_who_lost_a_password_end(
    server: Server, after: Accounts, ended: list[str]
) -> None:
    server.turn(TWO.to_bytes())
    server.turn(after.to_bytes())
    assert server.ended == ended


def test_sessions_end_also_while_the_next_document_is_bad(server: Server) -> None:
    server.turn(TWO.to_bytes())
    server.fault = SessionsUnavailable("Dovecot does not answer")
    with pytest.raises(SessionsUnavailable):
        server.turn(ONE.to_bytes())
    assert server.holds(ONE)
    server.fault = None
    with pytest.raises(AccountsError):
        server.turn(b"{")
    assert server.ended == ["bob"]
