"""How Dovecot decides who may log in: several passwords a user, addresses, and a file that is not whole."""

import imaplib
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.image.dovecot import Dovecot
from twinmail import password
from twinmail.accounts import Accounts, AppPassword
from twinmail.imap import LoginRefused, session
from twinmail.local.state import State
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Runtime
from twinmail.sync.sessions import Sessions
from twinmail.tasks.config import PROJECT

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
MAIN = "correct-horse-battery"
PHONE = "abcde-fghij-kmnpq-rstuv"
TABLET = "bcdef-fghij-kmnpq-rstuv"
BOB = "-starts-with-a-dash"


def app(label: str, secret: str) -> AppPassword:
    return AppPassword(label, password.name_of(secret), password.digest(secret), NOW)


ACCOUNTS = (
    Accounts()
    .added("ann", password.digest(MAIN), ["ann@example.org", "ann@example.net"], NOW)
    .with_app_password("ann", app("phone", PHONE))
    .with_app_password("ann", app("tablet", TABLET))
    .added("bob", password.digest(BOB), ["bob@example.org"], NOW)
)


@pytest.fixture(scope="module")
def server(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    layout = State.of_checkout(PROJECT).images / "dovecot"
    folder = tmp_path_factory.mktemp("login")
    dovecot = Dovecot(runtime, layout, host_platform(), folder, users=())
    try:
        yield dovecot.start("login-dovecot")
    finally:
        dovecot.stop()


@pytest.fixture
def whole(server: Dovecot) -> Dovecot:
    """With the accounts."""
    server.set_accounts(ACCOUNTS)
    wait(server, "opens")
    return server


def attempt(server: Dovecot, user: str, secret: str) -> str:
    """What came of it: ``opens``, ``refused``, or ``later``, by which no client asks for another password."""
    try:
        with session(server.account(user, secret)) as client:
            assert client.select("INBOX")[0] == "OK"
            return "opens"
    except LoginRefused:
        return "refused"
    except imaplib.IMAP4.abort as error:
        assert "[UNAVAILABLE]" in str(error)
        return "later"


def wait(server: Dovecot, expected: str, user: str = "ann", secret: str = MAIN) -> None:
    """Dovecot looks at the file once a second."""
    deadline = time.monotonic() + 60
    while (found := attempt(server, user, secret)) != expected:
        assert time.monotonic() < deadline, f"expected {expected}, got {found}"


def test_starts_without_the_file_and_knows_it_when_it_appears(server: Dovecot) -> None:
    assert not server.password_file.exists(), "the first test of this module"
    assert attempt(server, "ann", MAIN) == "later"
    assert attempt(server, "nobody", MAIN) == "later"
    server.set_accounts(ACCOUNTS)
    wait(server, "opens")
    assert attempt(server, "nobody", MAIN) == "refused"


@pytest.mark.parametrize("user", ["ann", "Ann", "ann@example.org", "ANN@Example.NET"])
@pytest.mark.parametrize("secret", [MAIN, PHONE, TABLET])
def test_every_password_at_every_login_name(whole: Dovecot, user: str, secret: str) -> None:
    assert attempt(whole, user, secret) == "opens"
    assert {one.name for one in (whole.folder / "mail").iterdir() if not one.name.startswith(".")} <= {
        "ann",
        "bob",
    }


@pytest.mark.parametrize(
    ("user", "secret"),
    [
        ("ann", "wrong"),
        ("ann", ""),
        ("ann", "-"),
        ("ann", "abcde"),
        ("ann", "abcde-"),
        ("ann", "abcde-fghij-kmnpq-rstuw"),
        ("ann", PHONE[:5] + TABLET[5:] + "x"),
        ("ann", PHONE.upper()),
        ("ann@example.org", "wrong"),
        ("bob", MAIN),
        ("bob", PHONE),
        ("bob@example.org", TABLET),
        ("ann@elsewhere.org", MAIN),
        ("nobody", MAIN),
        ("/end", ""),
        ("/end", "x"),
        ("ann/", MAIN),
        ("ann/abcde", PHONE),
        ("%{user}", MAIN),
        (".server", MAIN),
    ],
)
def test_everything_else_is_refused(whole: Dovecot, user: str, secret: str) -> None:
    assert attempt(whole, user, secret) == "refused"


def test_password_that_starts_with_a_dash(whole: Dovecot) -> None:
    assert attempt(whole, "bob@example.org", BOB) == "opens"


def test_revoked_password_is_refused_and_the_others_open(whole: Dovecot) -> None:
    whole.set_accounts(ACCOUNTS.without_app_password("ann", "phone"))
    wait(whole, "refused", secret=PHONE)
    assert attempt(whole, "ann", TABLET) == attempt(whole, "ann", MAIN) == "opens"


def test_two_changes_in_one_second_are_both_seen(whole: Dovecot) -> None:
    """The sizes differ although the lines do not, or Dovecot would take the second for the first."""
    for number in range(4):
        secret = f"changed-{number}"
        whole.set_accounts(ACCOUNTS.with_password("ann", password.digest(secret), NOW))
        wait(whole, "opens", secret=secret)


@pytest.mark.parametrize("kept", [0, 40, 400])
def test_cut_off_file_is_no_reason_to_ask_for_another_password(whole: Dovecot, kept: int) -> None:
    data = whole.password_file.read_bytes()
    whole.password_file.write_bytes(data[:kept])
    wait(whole, "later", user="bob", secret="wrong")
    assert attempt(whole, "nobody", "x") == "later"
    whole.set_accounts(ACCOUNTS)
    wait(whole, "opens", user="bob", secret=BOB)


def test_volume_that_went_away_is_no_reason_either(whole: Dovecot, tmp_path: Path) -> None:
    away = tmp_path / "users"
    whole.password_file.rename(away)
    assert attempt(whole, "ann", MAIN) in ("opens", "later")
    away.rename(whole.password_file)
    wait(whole, "opens")


def test_open_sessions_of_one_user_end_and_the_others_stay(whole: Dovecot) -> None:
    sessions = Sessions(whole.folder / "mail")
    sessions.end("ann")  # nobody is logged in
    with session(whole.account("ann", PHONE)) as ann, session(whole.account("bob", BOB)) as bob:
        ann.select("INBOX")
        ann.send(b"i IDLE\r\n")
        assert ann.readline().startswith(b"+")
        sessions.end("ann")
        assert ann.readline().startswith(b"* BYE")
        assert bob.noop()[0] == "OK"


def test_no_dovecot_is_no_session(tmp_path: Path) -> None:
    Sessions(tmp_path).end("ann")


def test_the_socket_of_the_syncer_takes_no_other_command(whole: Dovecot) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(whole.folder / "mail" / ".server" / "doveadm"))
        client.sendall(b"VERSION\tdoveadm-server\t1\t0\n\tann\tmailbox list\tann\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert b"INBOX" not in answer and answer.count(b"+\n") == 1


def test_passwords_are_not_in_the_log(whole: Dovecot) -> None:
    for secret in (MAIN, PHONE, "do-not-log-me"):
        attempt(whole, "ann", secret)
    log = whole.container.logs().decode()
    assert not [one for one in (MAIN, PHONE[6:], "do-not-log", "argon2id") if one in log]
