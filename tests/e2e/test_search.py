"""Search on both servers: what just came is found by its words, and what is gone is not."""

import time

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import Client


def search(client: Client, text: str, folder: str = "INBOX") -> list[str]:
    client.imap.select(folder, readonly=True)
    client.imap.literal = text.encode()
    status, lines = client.imap.uid("SEARCH", "CHARSET", "UTF-8", "BODY")
    assert status == "OK", lines
    found: list[str] = lines[0].decode().split()
    return found


def test_words_are_found_right_after_delivery_and_no_ghost_after_expunge(running: Running) -> None:
    data = (
        "From: sender@example.com\r\nSubject: search\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "Die Wärmepumpenförderung für Größenänderungen, please reply to suche@beispiel.example.\r\n"
    ).encode()
    accepted = running.sender.send(data, ["u30@example.org"])
    uids = running.uids("u30", accepted)
    for server in SERVERS:
        with running.client(server, "u30") as client:
            for text in ("wärmepumpe", "FÖRDERUNG", "größenänderung", "suche@beispiel.example", "reply"):
                assert search(client, text) == uids[server], f"{server}: {text}"
            assert search(client, "wärmepumpenheizung") == []
            client.delete(uids[server][0])
            assert search(client, "wärmepumpe") == []


def test_mail_is_indexed_without_a_client(running: Running) -> None:
    begun = time.time()
    accepted = running.sender.send(b"Subject: nobody looks\r\n\r\nunobserved\r\n", ["u31@example.org"])
    for server in SERVERS:
        index = running.state.maildirs(server) / "u31" / "Maildir" / "fts-flatcurve"
        deadline = time.monotonic() + 60
        # The mailbox may have mail, and an index, of another test.
        while not any(part.stat().st_mtime > begun for part in index.glob("*/postlist.glass")):
            assert time.monotonic() < deadline, running.system.tail(f"{server}-syncer")
            time.sleep(0.1)
        with running.client(server, "u31") as client:
            assert client.wait_for([accepted])[accepted.ses_id] == search(client, "unobserved")
