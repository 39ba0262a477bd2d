"""A mailbox that a server lost comes back from S3 alone, and is the other server's to the octet."""

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Running
from tests.e2e.test_sending import Commands
from twinmail.local.state import Claim

# More than go one by one, so that a batch is restored too.
COUNT = 70
USER = "u31"


@pytest.fixture(scope="module")
def commands(running: Running) -> Iterator[Commands]:
    claim = Claim(running.state)
    assert claim.take()
    yield Commands(running)
    claim.release()


def messages(running: Running, server: str) -> dict[str, bytes]:
    """Octets of each message by base name, which is equal on all servers."""
    maildir = running.state.maildirs(server) / USER / "Maildir"
    files = [path for path in maildir.rglob("*.twinmail,*") if path.parent.name in ("new", "cur")]
    found = {path.name.partition(":")[0]: path.read_bytes() for path in files}
    assert len(found) == len(files)
    return found


def test_a_lost_mailbox_is_restored_to_the_octet(running: Running, commands: Commands) -> None:
    data = [f"Subject: {number}\r\n\r\n{'x' * number * 100}\r\n".encode() for number in range(COUNT)]
    accepted = running.sender.send_all(data, [f"{USER}@example.org"])
    for server in ("primary", "backup"):
        with running.client(server, USER) as client:
            client.wait_for(accepted, "INBOX", 120)
    live = messages(running, "backup")
    assert len(live) == COUNT and messages(running, "primary") == live

    running.system.stop_container("primary-syncer")
    shutil.rmtree(running.state.maildirs("primary") / USER)
    for path in running.state.ledger("primary").glob("ledger.sqlite*"):
        path.unlink()
    running.system.start_syncer("primary")
    running.system.wait_for_syncer("primary")

    told = commands.json("restore", "--server", "primary", "--mailbox", USER)
    assert told["left"] == 0 and told["looked"] == told["entries"] >= COUNT
    assert messages(running, "primary") == live
    with running.client("primary", USER) as client:
        client.wait_for(accepted, "INBOX", 60)


def test_lost_files_come_back_when_asked_for_although_the_ledger_knows_them(
    running: Running, commands: Commands
) -> None:
    live = messages(running, "backup")
    for path in list((running.state.maildirs("primary") / USER / "Maildir").rglob("*.twinmail,*"))[:10]:
        path.unlink()
    assert commands.json("restore", "--server", "primary", "--mailbox", USER)["restored"] == 0
    told = commands.json("restore", "--server", "primary", "--mailbox", USER, "--since", "1d", "--lost")
    assert told["restored"] == 10 and messages(running, "primary") == live


def test_bad_requests_are_one_line(commands: Commands) -> None:
    for words, said in (
        (("--server", "third"), "--server third: expected one of primary, backup"),
        (("--server", "primary", "--mailbox", "nobody"), "--mailbox nobody: expected one of"),
        (("--server", "primary", "--since", "soon"), "--since soon: expected a day"),
    ):
        done = commands.run("restore", *words)
        assert done.returncode == 1 and done.stderr.startswith(said) and done.stderr.count("\n") == 1
