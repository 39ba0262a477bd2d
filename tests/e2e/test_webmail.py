"""Webmail in front of the whole system: who may write as whom, and what is kept of it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from threading import Barrier

import pytest

from tests.e2e.conftest import CROWD, Running
from tests.image.webmail_client import WebmailClient

SERVER = "backup"


@pytest.fixture
def ann(running: Running) -> Iterator[WebmailClient]:
    browser = WebmailClient(running.system.ports[f"{SERVER}-webmail"], running.system.ca, "127.0.1.1")
    assert "task-mail" in browser.log_in("ann@example.org", running.passwords["ann"]).text
    yield browser


def subjects(running: Running, user: str, folder: str, subject: str) -> int:
    """How many messages with *subject* the user has in *folder*."""
    with running.client(SERVER, user) as client:
        client.imap.select(folder, readonly=True)
        return len(client.imap.search(None, "SUBJECT", f'"{subject}"')[1][0].split())


def wait_for(running: Running, user: str, folder: str, subject: str) -> None:
    deadline = time.monotonic() + 60
    while not subjects(running, user, folder, subject):
        assert time.monotonic() < deadline, f"{subject!r} not in {folder} of {user}"
        time.sleep(0.1)


def test_writes_as_each_address_of_the_mailbox_and_keeps_a_copy(ann: WebmailClient, running: Running) -> None:
    identities = ann.identities()
    assert {text.partition("<")[2].rstrip(">") for text in identities} == set(
        running.system.config.addresses_of("ann")
    )
    for number, identity in enumerate(identities.values()):
        subject = f"as identity {number}"
        assert "Message sent successfully" in ann.send(identity, "bob@example.org", subject)
        wait_for(running, "bob", "INBOX", subject)
        wait_for(running, "ann", "Sent", subject)
        assert subjects(running, "ann", "Sent", subject) == 1


@pytest.mark.parametrize(
    "sender",
    [
        "bob@example.org",
        "Ann <bob@example.org>",
        "ann@example.org.evil.example",
        '"ann@example.org" <mallory@evil.example>',
        "anybody@example.net",
    ],
)
def test_forged_sender_is_refused_and_nothing_goes_out(
    ann: WebmailClient, running: Running, sender: str
) -> None:
    subject = f"forged {abs(hash(sender))}"
    told = ann.send(sender, "bob@example.org", subject)
    assert "is not an address of yours" in told
    assert "sent_successfully" not in told
    # A message that is sent after it is there, and the forged one is not.
    marker = f"after {subject}"
    assert "Message sent successfully" in ann.send("ann@example.org", "bob@example.org", marker)
    wait_for(running, "bob", "INBOX", marker)
    assert subjects(running, "bob", "INBOX", subject) == 1, "the marker's subject contains it"
    assert subjects(running, "ann", "Sent", subject) == 1


def test_first_logins_at_the_same_instant_all_succeed(running: Running) -> None:
    users = [user for user in CROWD[:3] for _ in range(4)]
    port, start = running.system.ports[f"{SERVER}-webmail"], Barrier(len(users))

    def log_in(number: int, user: str) -> tuple[int, bool]:
        browser = WebmailClient(port, running.system.ca, f"127.0.4.{number + 1}")
        browser.get()
        start.wait(60)
        fields = {"_task": "login", "_action": "login", "_timezone": "UTC", "_url": ""}
        secret = running.passwords[user]
        answer = browser.post("?_task=login", {**fields, "_user": user, "_pass": secret})
        return answer.status_code, "task-mail" in answer.text

    with ThreadPoolExecutor(len(users)) as pool:
        done = [pool.submit(log_in, number, user) for number, user in enumerate(users)]
        assert [one.result() for one in done] == [(200, True)] * len(users)


def test_sending_on_unchanged_is_off(ann: WebmailClient) -> None:
    answer = ann.get("?_task=mail&_action=bounce&_uid=1&_mbox=INBOX")
    assert "FILE NOT FOUND" in answer.text


def test_either_container_ends_and_both_are_back(running: Running) -> None:
    for part in ("php", "web"):
        name = f"{SERVER}-{part}"
        running.system.containers[name].kill()
        running.system.restart(name)
        browser = WebmailClient(running.system.ports[f"{SERVER}-webmail"], running.system.ca, "127.0.1.2")
        assert "task-mail" in browser.log_in("bob", running.passwords["bob"]).text


def test_largest_message_goes_out_and_comes_in(ann: WebmailClient, running: Running) -> None:
    """28 MB of a file are 38 MB of a message; 40 MB is what SES takes."""
    number = ann.compose_id()
    data = bytes(range(256)) * (28 * 4096)
    query = f"?_task=mail&_action=upload&_id={number}&_uploadid=1"
    assert "photos.bin" in ann.upload(query, "_attachments[]", "photos.bin", data, "image/x-raw").text
    sent = ann.send("ann@example.org", "bob@example.org", "the photos", compose_id=number)
    assert "Message sent successfully" in sent
    wait_for(running, "bob", "INBOX", "the photos")
    with running.client(SERVER, "bob") as client:
        client.imap.select("INBOX", readonly=True)
        (found,) = client.imap.search(None, "SUBJECT", '"the photos"')[1][0].split()
        answer = client.imap.fetch(found, "(BODY.PEEK[])")[1][0]
        assert isinstance(answer, tuple)
        message = message_from_bytes(answer[1])
    (attached,) = (part for part in message.walk() if part.get_filename() == "photos.bin")
    assert attached.get_payload(decode=True) == data
