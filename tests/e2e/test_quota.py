"""A mailbox that is full on both servers: nothing is lost, everything comes once when there is room."""

import json
import time
import urllib.request
from typing import Any

from tests.e2e.conftest import SERVERS, SMALL, Running
from tests.e2e.mail import Accepted, stored
from twinmail.local.state import LOOPBACK

MB = 1 << 20


def message(subject: str, octets: int) -> bytes:
    head = f"From: sender@example.com\r\nSubject: {subject}\r\n\r\n"
    line = "A line of sixty-two characters, as long as lines in mail are.\r\n"
    return (head + line * ((octets - len(head)) // len(line))).encode()


def ask(running: Running, server: str, path: str) -> str:
    port = running.system.ports[f"{server}-health"]
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def full(running: Running, server: str, user: str) -> dict[str, Any]:
    """What the status page says about *user*; empty if there is room."""
    found: dict[str, Any] = json.loads(ask(running, server, "/status"))["full"].get(user, {})
    return found


def wait_until_waiting(running: Running, server: str, user: str, count: int) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while full(running, server, user).get("waiting", 0) != count:
        assert time.monotonic() < deadline, ask(running, server, "/status")
        time.sleep(0.2)
    return full(running, server, user)


def notices(running: Running, server: str, user: str) -> list[str]:
    with running.client(server, user) as client:
        client.imap.select("INBOX", readonly=True)
        found: list[str] = client.imap.uid("SEARCH", "FROM", "mailer-daemon")[1][0].decode().split()
        return found


def make_room(running: Running, server: str, user: str, accepted: Accepted) -> None:
    """Delete a message as a person does: to the Trash, and empty that."""
    with running.client(server, user) as client:
        (uid,) = client.find(accepted)
        client.imap.select("INBOX")
        assert client.imap.uid("MOVE", uid, "Trash")[0] == "OK"
        client.imap.select("Trash")
        client.imap.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
        client.imap.expunge()


def send(running: Running, user: str, subject: str, octets: int) -> Accepted:
    return running.sender.send(message(subject, octets), [f"{user}@example.org"])


def test_message_over_quota_waits_and_comes_once_on_both_servers(running: Running) -> None:
    first, second = (send(running, "small", f"large {number}", 18 * MB) for number in range(2))
    for one in (first, second):
        running.assert_once("small", one, timeout=120)
    third = send(running, "small", "too much", 18 * MB)
    for server in SERVERS:
        shortage = wait_until_waiting(running, server, "small", 1)
        assert (
            shortage["quota"] == SMALL and shortage["used"] > 36 * MB * 0.99 and shortage["octets"] > 17 * MB
        )
        assert 'full_mailbox_waiting{mailbox="small"} 1\n' in ask(running, server, "/metrics")

    # What comes later and fits is not held back, and the queue is not blocked.
    little = send(running, "small", "little", 2000)
    running.assert_once("small", little)

    for server in SERVERS:
        # The user is told, in the mailbox, and sees why in every client.
        (uid,) = notices(running, server, "small")
        with running.client(server, "small") as client:
            text = client.fetch(uid).decode()
            assert "Subject: Your mailbox is full, new mail waits\r\n" in text
            assert f"Your mailbox on {server}.example.org is full" in text
            (_, lines) = client.imap.getquotaroot("INBOX")[1]
            used, limit = map(int, lines[0].rstrip(b")").split()[-2:])
            assert limit == SMALL // 1024 and used > 35 * 1024
            status, said = client.imap.append("Drafts", None, None, message("draft", 5 * MB))  # type: ignore[arg-type]
            assert status == "NO" and b"[OVERQUOTA] Your mailbox is full" in said[0]
        assert not stored(running.state.maildirs(server), "small", third)

    # The list of what waits survives a restart; without the ledger the log has it.
    running.system.stop_container("primary-syncer")
    running.system.stop_container("backup-syncer")
    for path in running.state.ledger("backup").glob("ledger.sqlite*"):
        path.unlink()
    for server in SERVERS:
        running.system.start_syncer(server)
    for server in SERVERS:
        running.system.wait_for_syncer(server)
        wait_until_waiting(running, server, "small", 1)
        assert not stored(running.state.maildirs(server), "small", third)
        assert len(notices(running, server, "small")) == 1

    for server in SERVERS:
        make_room(running, server, "small", first)
    running.assert_once("small", third, timeout=120)
    for server in SERVERS:
        wait_until_waiting(running, server, "small", 0)
        assert not stored(running.state.maildirs(server), "small", first)
        assert len(notices(running, server, "small")) == 1


def test_others_get_it_at_once_and_a_server_with_room_has_it(running: Running) -> None:
    """One recipient's full mailbox is no other's trouble, nor one server's the other's."""
    filler = send(running, "smaller", "filler", 30 * MB)
    running.assert_once("smaller", filler, timeout=120)
    make_room(running, "backup", "smaller", filler)
    both = running.sender.send(message("for both", 20 * MB), ["smaller@example.org", "bob@example.org"])
    running.assert_once("bob", both, timeout=120)
    with running.client("backup", "smaller") as client:
        client.wait_for([both], timeout=120)
    wait_until_waiting(running, "primary", "smaller", 1)
    assert not stored(running.state.maildirs("primary"), "smaller", both)
    assert notices(running, "backup", "smaller") == []
    make_room(running, "primary", "smaller", filler)
    running.assert_once("smaller", both, timeout=120)
    wait_until_waiting(running, "primary", "smaller", 0)
