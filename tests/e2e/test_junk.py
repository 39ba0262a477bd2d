"""What a user moves into or out of Junk on one server counts for the sender's next message on both."""

import json
from typing import Any

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import Accepted, Client
from tests.e2e.people import stranger, wait
from twinmail.mailbox_settings import Settings

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def message(sender: str, body: bytes = b"Hello") -> bytes:
    return f"From: Somebody <{sender}>\r\nTo: a@example.org\r\nSubject: x\r\n\r\n".encode() + body + b"\r\n"


def by_move(client: Client, uid: str, source: str, target: str) -> None:
    client.imap.select(source)
    assert client.imap.uid("MOVE", uid, target)[0] == "OK"


def by_copy(client: Client, uid: str, source: str, target: str) -> None:
    """As clients do that do not know MOVE."""
    client.imap.select(source)
    assert client.imap.uid("COPY", uid, target)[0] == "OK"
    client.imap.uid("STORE", uid, "+FLAGS.SILENT", "(\\Seen \\Deleted)")
    client.imap.expunge()


def opinions(running: Running, user: str, sender: str) -> list[str]:
    """What each server knows of *sender*: its own record."""

    found = []
    for server in SERVERS:
        path = running.state.ledger(server) / "settings" / f"{user}.json"
        try:
            found.append(
                Settings.from_bytes(json.loads(path.read_text())["settings"].encode()).sender(sender)
            )
        except FileNotFoundError:
            found.append("")
    return found


def moved(
    running: Running, server: str, user: str, accepted: Accepted, how: Any, source: str, target: str
) -> None:
    with running.client(server, user) as client:
        (uid,) = client.wait_for([accepted], source)[accepted.ses_id]
        how(client, uid, source, target)


@pytest.mark.parametrize(("server", "user", "how"), [("primary", "u34", by_move), ("backup", "u35", by_copy)])
def test_moved_into_junk_and_back(running: Running, server: str, user: str, how: Any) -> None:
    sender, address = stranger(), f"{user}@example.org"
    first = running.sender.send(message(sender), [address])
    running.assert_once(user, first)
    moved(running, server, user, first, how, "INBOX", "Junk")
    wait(lambda: opinions(running, user, sender) == ["junk", "junk"], "the sender known on both servers")
    second = running.sender.send(message(sender.upper()), [address])
    running.assert_once(user, second, "Junk")
    moved(running, server, user, first, how, "Junk", "INBOX")
    wait(lambda: opinions(running, user, sender) == ["", ""], "the sender forgotten on both servers")
    third = running.sender.send(message(sender), [address])
    running.assert_once(user, third)


def test_moved_out_of_junk_helps_mail_that_looks_like_spam(running: Running) -> None:
    sender, user = stranger(), "u36"
    first = running.sender.send(message(sender, GTUBE), [f"{user}@example.org"])
    running.assert_once(user, first, "Junk")
    moved(running, "primary", user, first, by_move, "Junk", "INBOX")
    wait(lambda: opinions(running, user, sender) == ["ham", "ham"], "the sender known on both servers")
    second = running.sender.send(message(sender, GTUBE), [f"{user}@example.org"])
    running.assert_once(user, second)
    stranger_still = running.sender.send(message(stranger(), GTUBE), [f"{user}@example.org"])
    running.assert_once(user, stranger_still, "Junk")


def test_deleted_from_junk_teaches_nothing(running: Running) -> None:
    sender, user = stranger(), "u37"
    first = running.sender.send(message(sender, GTUBE), [f"{user}@example.org"])
    running.assert_once(user, first, "Junk")
    for server in SERVERS:
        with running.client(server, user) as client:
            client.delete(client.find(first, "Junk")[0], "Junk")
    second = running.sender.send(message(sender, GTUBE), [f"{user}@example.org"])
    running.assert_once(user, second, "Junk")
    assert opinions(running, user, sender) == ["", ""]
