"""Reading message files, choosing envelopes, and the octets that go over the wire."""

import re
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail.config import Config
from twinmail.errors import PermanentError, TransientError
from twinmail.send import (
    Envelope,
    EnvelopeError,
    Mailer,
    Outgoing,
    envelope,
    on_the_wire,
    read,
    send_all,
    split_mbox,
    with_line_ends,
)

CONFIG = Config.parse(
    """
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org"]
[mailboxes.ann]
addresses = ["ann@example.org"]
[mailboxes.bob]
addresses = ["bob@example.org"]
[servers.primary]
platform = "linux/arm64"
host = "primary.example.org"
"""
)


def test_one_file_is_one_message_untouched(tmp_path: Path) -> None:
    file = tmp_path / "a.eml"
    file.write_bytes(b"From quirk\nSubject: x\r\n\r\n\x00\xff\r")
    assert list(read([file])) == [Outgoing(str(file), b"From quirk\nSubject: x\r\n\r\n\x00\xff\r")]


def test_folder_is_read_recursively_and_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.msg", "a.eml", ".git/config", "b/.hidden", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert [one.content for one in read([tmp_path])] == [b"a.eml", b"b/1", b"b/2.msg"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"none\.eml: cannot be read: No such file"):
        list(read([tmp_path / "none.eml"]))


MBOX = (
    b"From a@b Mon Nov 23 00:00:00 2026\nSubject: 1\n\none\n>From here\n>>From there\nFrom within\n\n"
    b"From c@d Mon Nov 23 00:00:01 2026\nSubject: 2\n\n\n"
    b"From e@f Mon Nov 23 00:00:02 2026\nSubject: 3\n"
)


def test_mbox_is_split_and_unquoted(tmp_path: Path) -> None:
    file = tmp_path / "inbox"
    file.write_bytes(MBOX)
    messages = list(read([file]))
    assert [one.content for one in messages] == [
        b"Subject: 1\n\none\nFrom here\n>From there\nFrom within\n",
        b"Subject: 2\n\n",
        b"Subject: 3\n",
    ]
    assert messages[2].source == f"{file}#3"


bodies = st.lists(st.sampled_from([b"\n", b"x\n", b"From y\n", b">From z\n", b".\n"]), max_size=8).map(
    b"".join
)


@given(st.lists(bodies, min_size=1, max_size=4))
def test_mbox_gives_back_what_was_put_in(contents: list[bytes]) -> None:
    messages = [b"Subject: x\n\n" + body for body in contents]
    quoted = (re.sub(rb"(?m)^(>*From )", rb">\1", one) for one in messages)
    mbox = b"".join(b"From a@b date\n" + one + b"\n" for one in quoted)
    assert list(split_mbox(mbox.splitlines(keepends=True))) == messages


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"From: Ann <a@b.c>\nTo: ann@example.org\n", Envelope("a@b.c", ("ann@example.org",))),
        (
            b"To: x@y.z, Ann <ann@example.org>\nCc: ann+tag@example.org\n",
            Envelope("", ("ann@example.org", "ann+tag@example.org")),
        ),
        (b"From: \xff\xfe@x\nBcc: bob@example.org, bob@example.org\n", Envelope("", ("bob@example.org",))),
        (b"From: undisclosed\nTo: ann@example.org\n", Envelope("", ("ann@example.org",))),
    ],
)
def test_envelope_comes_from_the_header(header: bytes, expected: Envelope) -> None:
    assert envelope(header + b"\nTo: bob@example.org\n", CONFIG) == expected


def test_given_addresses_win() -> None:
    content = b"From: a@b.c\nTo: ann@example.org\n\n"
    assert envelope(content, CONFIG, "", ["x@y.z"]) == Envelope("", ("x@y.z",))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"To: x@y.z\n\n", b"To: nobody@example.org\n\n"])
def test_without_a_recipient_of_ours_the_remedy_is_named(content: bytes) -> None:
    with pytest.raises(EnvelopeError, match="--to"):
        envelope(content, CONFIG)


@pytest.mark.parametrize("address", ["a b@c", "a@b>", "ä@b.c", "a@b\r\nDATA"])
def test_an_address_cannot_break_out_of_its_command(address: str) -> None:
    with pytest.raises(EnvelopeError, match="is not an address"):
        envelope(b"", CONFIG, "", [address])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\n", b"a\r\nb\r\n.\r\n"),
        (b"a\r\nb\n.c", b"a\r\nb\n.c\r\n.\r\n"),
        (b".a\r\n.\r\n..", b"..a\r\n..\r\n...\r\n.\r\n"),
        (b"a\n.b\n", b"a\r\n..b\r\n.\r\n"),
        (b"\r.\r\n", b"\r.\r\n.\r\n"),
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
    ],
)
def test_octets_on_the_wire(content: bytes, expected: bytes) -> None:
    assert on_the_wire(with_line_ends(content)) == expected


class Conversation(socketserver.StreamRequestHandler):
    """A server that speaks just enough SMTP, and writes down every line."""

    heard: ClassVar[list[bytes]] = []
    refusals: ClassVar[dict[bytes, bytes]] = {}

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            self.heard.append(line)
            command = line.split(b" ")[0].strip().upper()
            refusal = next((answer for words, answer in self.refusals.items() if words in line), None)
            if refusal == b"":
                return
            if refusal:
                self.wfile.write(refusal + b"\r\n")
            elif command == b"EHLO":
                self.wfile.write(b"250-test\r\n250-SIZE 1000000\r\n250 8BITMIME\r\n")
            elif command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                data = b"\r\n"
                while not data.endswith(b"\r\n.\r\n"):
                    data += self.rfile.readline()
                self.heard.append(data[2:])
                self.wfile.write(b"250 Ok vm1p3c6jenrgbr944ldf0ljraep1ndp19hbclt01\r\n")
            else:
                self.wfile.write(b"250 Ok\r\n")


@pytest.fixture
def server() -> Iterator[socketserver.ThreadingTCPServer]:
    Conversation.heard.clear()
    Conversation.refusals.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Conversation) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def mailer(server: socketserver.ThreadingTCPServer) -> Mailer:
    host, port = server.server_address[:2]
    return Mailer(str(host), int(port))


MESSAGE = Outgoing("a.eml", b"To: ann@example.org\r\n\r\n\xc3\xa4\r\n.\r\nend\x00\n")


def test_a_message_is_one_transaction_with_its_octets(server: socketserver.ThreadingTCPServer) -> None:
    with mailer(server) as connected:
        result = connected.send(MESSAGE, Envelope("a@b.c", ("ann@example.org", "bob@example.org")))
    assert result.ok
    assert result.ses_id == "vm1p3c6jenrgbr944ldf0ljraep1ndp19hbclt01"
    assert Conversation.heard[1:] == [
        b"MAIL FROM:<a@b.c> SIZE=37 BODY=8BITMIME\r\n",
        b"RCPT TO:<ann@example.org>\r\n",
        b"RCPT TO:<bob@example.org>\r\n",
        b"DATA\r\n",
        b"To: ann@example.org\r\n\r\n\xc3\xa4\r\n..\r\nend\x00\n\r\n.\r\n",
        b"quit\r\n",
    ]


def test_one_refused_recipient_does_not_stop_the_others(server: socketserver.ThreadingTCPServer) -> None:
    Conversation.refusals[b"RCPT TO:<bob@"] = b"550 5.1.1 mailbox unavailable"
    with mailer(server) as connected:
        result = connected.send(MESSAGE, Envelope("", ("ann@example.org", "bob@example.org")))
    assert not result.ok
    assert result.code == 250
    assert result.refused == {"bob@example.org": "550 5.1.1 mailbox unavailable"}


@pytest.mark.parametrize("command", [b"MAIL FROM:<bad@", b"RCPT TO:<bad@", b"DATA"])
def test_after_a_refused_message_the_next_is_sent(
    server: socketserver.ThreadingTCPServer, command: bytes
) -> None:
    Conversation.refusals[command] = b"552 5.3.4 too long"
    with mailer(server) as connected:
        first = connected.send(MESSAGE, Envelope("bad@b.c", ("bad@example.org",)))
        Conversation.refusals.clear()
        second = connected.send(MESSAGE, Envelope("a@b.c", ("ann@example.org",)))
    assert (first.ok, first.code, first.answer, first.ses_id) == (False, 552, "5.3.4 too long", None)
    assert second.ok


def test_a_broken_connection_is_made_anew_but_nothing_is_sent_twice(
    server: socketserver.ThreadingTCPServer,
) -> None:
    Conversation.refusals[b"DATA"] = b""
    with mailer(server) as connected:
        first = connected.send(MESSAGE, Envelope("a@b.c", ("ann@example.org",)))
        Conversation.refusals.clear()
        second = connected.send(MESSAGE, Envelope("a@b.c", ("ann@example.org",)))
    assert (first.ok, first.code) == (False, 0)
    assert second.ok
    assert sum(line.startswith(b"MAIL") for line in Conversation.heard) == 2


def test_messages_without_envelope_are_reported_and_passed_over(
    server: socketserver.ThreadingTCPServer,
) -> None:
    lost = Outgoing("lost.eml", b"Subject: to nobody\n\n")
    with mailer(server) as connected:
        results = list(send_all(connected, [lost, MESSAGE], CONFIG))
    assert [one.ok for one in results] == [False, True]
    assert "--to" in results[0].answer


def test_nothing_listening_is_transient_and_names_the_address() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Conversation) as closed:
        port = closed.server_address[1]
    with pytest.raises(TransientError, match=rf"127\.0\.0\.1:{port} does not answer as a mail server"):
        Mailer("127.0.0.1", port).send(MESSAGE, Envelope("a@b.c", ("ann@example.org",)))
