"""What the two IMAP servers of the running system have in common, and what they do not."""

import socket
import ssl
from pathlib import Path
from typing import Any

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import stored
from twinmail import password_file
from twinmail.local.state import LOOPBACK

FOLDERS = ("Sent", "Drafts", "Junk", "Trash", "Archive")


def message(subject: str) -> bytes:
    return f"From: sender@example.com\r\nTo: bob@example.org\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()


def test_one_password_file_opens_both(running: Running) -> None:
    files = {(running.state.maildirs(server) / password_file.PLACE).read_bytes() for server in SERVERS}
    assert len({one.rstrip(b"#\n") for one in files}) == 1
    for server in SERVERS:
        with running.client(server, "bob") as client:
            assert client.imap.select("INBOX")[0] == "OK"


def test_each_certificate_is_for_its_own_server(running: Running) -> None:
    for server in SERVERS:
        port = running.system.ports[f"{server}-imaps"]
        for name in ("localhost", LOOPBACK, f"{server}.example.org"):
            assert certificate_names(port, name, running.system.ca) >= {"localhost", f"{server}.example.org"}


def certificate_names(port: int, name: str, ca: Path) -> set[str]:
    context = ssl.create_default_context(cafile=str(ca))
    with (
        socket.create_connection((LOOPBACK, port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        certificate = connection.getpeercert()
    assert certificate
    pairs: Any = certificate["subjectAltName"]
    return {value for kind, value in pairs if kind == "DNS"}


def test_special_folders_are_on_both(running: Running) -> None:
    for server in SERVERS:
        with running.client(server, "bob") as client:
            lines = b"\n".join(line for line in client.imap.lsub()[1] if isinstance(line, bytes))
            for folder in FOLDERS:
                assert b"\\%s) " % folder.encode() in lines
                assert client.imap.select(folder)[0] == "OK"


def test_idle_announces_what_the_syncer_delivers(running: Running) -> None:
    accepted = None
    for server in SERVERS:
        with running.client(server, "bob") as client:
            count = int(client.imap.select("INBOX")[1][0] or 0)
            client.imap.send(b"i IDLE\r\n")
            assert client.imap.readline().startswith(b"+")
            accepted = running.sender.send(message(f"idle at {server}"), ["bob@example.org"])
            # The connection's time-out is the deadline.
            while (line := client.imap.readline()) != b"* %d EXISTS\r\n" % (count + 1):
                assert line.startswith(b"* "), line
            client.imap.send(b"DONE\r\n")
            while not client.imap.readline().startswith(b"i OK"):
                pass
            assert client.find(accepted)
        running.assert_once("bob", accepted)


def test_moved_message_keeps_its_identity(running: Running) -> None:
    accepted = running.sender.send(message("moved"), ["bob@example.org"])
    running.assert_once("bob", accepted)
    server, other = SERVERS
    with running.client(server, "bob") as client:
        before = {guid for guid in client.guids() if accepted.name_part in guid}
        client.imap.select("INBOX")
        assert client.imap.uid("MOVE", client.find(accepted)[0], "Archive")[0] == "OK"
        assert {guid for guid in client.guids("Archive") if accepted.name_part in guid} == before
        assert not client.find(accepted)
    with running.client(other, "bob") as client:
        assert {guid for guid in client.guids() if accepted.name_part in guid} == before
    assert len(stored(running.state.maildirs(server), "bob", accepted)) == 1


def test_indexes_are_not_needed(running: Running) -> None:
    """Everything of Dovecot's beside the messages can be lost."""
    accepted = running.sender.send(message("indexes"), ["bob@example.org"])
    running.assert_once("bob", accepted)
    server = SERVERS[0]
    running.system.stop_container(f"{server}-dovecot")
    for path in (running.state.maildirs(server) / "bob" / "Maildir").rglob("dovecot*"):
        path.unlink()
    running.system.start_dovecot(server)
    running.system.wait_for_dovecot(server)
    running.assert_once("bob", accepted)
    with running.client(server, "bob") as client:
        guid = next(guid for guid in client.guids() if accepted.name_part in guid)
        (path,) = stored(running.state.maildirs(server), "bob", accepted)
        assert path.name.partition(":")[0] == guid
