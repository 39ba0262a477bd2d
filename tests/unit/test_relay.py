"""The relay's parts: who may write as whom, what leaves, what SES says, and the copy that is owed."""

import asyncio
import io
import os
import smtplib
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.test_client_profile import CONFIG
from twinmail.durable_file import NotWritten
from twinmail.local import pki
from twinmail.outgoing import MaybeSent, NotSent, Refused
from twinmail.relay.sender import author, may_write_as, refusal, without_blind_copies
from twinmail.relay.server import Relay, Session, at_once
from twinmail.relay.ses_smtp import SmtpSending
from twinmail.relay.spool import Spool
from twinmail.smtp_credentials import Credential
from twinmail.sync.log import Log

SES_ID = "0107018fabcdef01-1b2c3d4e-0000-4000-8000-123456789abc-000000"
LETTER = b"From: Ann <ann@example.org>\r\nMessage-ID: <a@client>\r\nSubject: x\r\n\r\nbody\r\n"


class TestWhoMayWriteAsWhom:
    @pytest.mark.parametrize(
        ("mailbox", "address"),
        [
            ("ann", "ann@example.org"),
            ("ann", "Ann+Shop@Example.org"),
            ("ann", "anything@example.net"),
            ("ann", "team@example.org"),
            ("bob", "team@example.org"),
        ],
    )
    def test_their_own(self, mailbox: str, address: str) -> None:
        assert may_write_as(CONFIG, mailbox, address)

    @pytest.mark.parametrize(
        ("mailbox", "address"),
        [
            ("bob", "ann@example.org"),
            ("bob", "anything@example.net"),
            ("ann", "ann@example.com"),
            ("ann", "bob+x@example.org"),
            ("ann", ""),
        ],
    )
    def test_nobody_elses(self, mailbox: str, address: str) -> None:
        assert not may_write_as(CONFIG, mailbox, address)

    @pytest.mark.parametrize(
        "head",
        [
            "From: ann@example.org",
            "From: =?utf-8?q?bob=40example=2Eorg?= <ann@example.org>",
            'From: "bob@example.org" <ann@example.org>',
            "From: ann@example.org,\r\n Ann <ann@example.net>\r\nSender: ann@example.org",
            "FROM:\r\n ann@example.org",
        ],
    )
    def test_a_header_of_their_own(self, head: str) -> None:
        assert refusal(CONFIG, "ann", "ann@example.org", f"{head}\r\n\r\nx".encode()) == ""

    @pytest.mark.parametrize(
        "head",
        [
            "From: bob@example.org",
            "From: ann@example.org, bob@example.org",
            "From: ann@example.org\r\nFrom: bob@example.org",
            "From: ann@example.org\r\nSender: bob@example.org",
            "From : bob@example.org",
            "From: undisclosed",
            "From: <>",
            "Subject: no author",
            "From: ann@example.org <bob@example.org>",
        ],
    )
    def test_a_header_that_is_not(self, head: str) -> None:
        assert refusal(CONFIG, "ann", "ann@example.org", f"{head}\r\n\r\nx".encode())

    def test_a_header_that_nobody_looks_through(self) -> None:
        long = b"From: ann@example.org\r\n" + b"X: y\r\n" * 50_000 + b"Bcc: a@b\r\n\r\nx"
        assert "longer than 262144 octets" in refusal(CONFIG, "ann", "ann@example.org", long)

    def test_the_answer_names_an_address_that_works(self) -> None:
        told = refusal(CONFIG, "bob", "ann@example.org", LETTER)
        assert told == "ann@example.org is not an address of bob, which may send from bob@example.org"

    def test_a_receipt_has_no_sender_and_takes_its_authors(self) -> None:
        assert refusal(CONFIG, "ann", "", LETTER) == ""
        assert author(LETTER) == "ann@example.org"


class TestBlindCopies:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (b"Bcc: a@b\r\nTo: c@d\r\n\r\nx", b"To: c@d\r\n\r\nx"),
            (b"To: c@d\r\nBCC : a@b,\r\n\te@f\r\n\r\nx", b"To: c@d\r\n\r\nx"),
            (b"To: c@d\r\nResent-Bcc: a@b\r\nBcc:\r\n\r\nBcc: x", b"To: c@d\r\n\r\nBcc: x"),
            (b"To: c@d\nbcc: a@b\n\nx", b"To: c@d\n\nx"),
            (b"X-Bcc: a@b\r\n\r\nx", b"X-Bcc: a@b\r\n\r\nx"),
            (b"Bcc: a@b", b""),
        ],
    )
    def test_the_field_goes_and_nothing_else(self, before: bytes, after: bytes) -> None:
        assert without_blind_copies(before) == after

    @given(
        st.lists(st.sampled_from([b"To: a@b", b"Bcc: c@d", b"Subject: x\r\n y", b"bcc: e@f,\r\n g@h"])),
        st.binary(max_size=64),
    )
    def test_all_other_octets_stay(self, fields: list[bytes], body: bytes) -> None:
        def joined(some: list[bytes]) -> bytes:
            return b"".join(one + b"\r\n" for one in some) + b"\r\n" + body

        kept = [one for one in fields if not one.lower().startswith(b"bcc")]
        assert without_blind_copies(joined([b"From: a@b", *fields])) == joined([b"From: a@b", *kept])


@dataclass
class Endpoint:
    """SES's endpoint, with answers to order; what it took is in `taken`."""

    port: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    taken: list[bytes] = field(default_factory=list)
    hang_up: bool = False

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("rcpt", "250 Ok")

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.hang_up:
            server.transport.abort()
            return "250 never seen"
        self.taken.append(envelope.content)
        return self.answers.get("data", f"250 Ok {SES_ID}")


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    pki.ensure(tmp_path, tmp_path / "server", ())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server" / "cert.pem", tmp_path / "server" / "key.pem")
    handler, loop = Endpoint(), asyncio.new_event_loop()

    def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == b"right", handled=False)

    def session() -> SMTP:
        return SMTP(handler, auth_require_tls=False, auth_required=True, authenticator=login)

    listening = loop.run_until_complete(loop.create_server(session, "127.0.0.1", 0, ssl=context))
    handler.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield handler
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    listening.close()
    loop.close()


@pytest.fixture
def sending(endpoint: Endpoint, tmp_path: Path) -> SmtpSending:
    tls = pki.client_context(tmp_path / pki.CA)
    return SmtpSending("localhost", endpoint.port, tls, lambda: Credential("AKIAEXAMPLE", "right"))


class TestSes:
    def test_dots_stay_wherever_a_piece_ends(
        self, endpoint: Endpoint, sending: SmtpSending, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("twinmail.relay.ses_smtp._PIECE", 3)
        letter = LETTER + b".\r\n..a\r\n.b\r\nc.\r\n\r\n."
        sending.send("ann@example.org", ["bob@example.com"], letter)
        assert endpoint.taken == [letter + b"\r\n"]

    def test_its_id_is_read_from_the_answer(self, endpoint: Endpoint, sending: SmtpSending) -> None:
        assert sending.send("ann@example.org", ["bob@example.com"], LETTER) == SES_ID
        assert endpoint.taken == [LETTER]

    @pytest.mark.parametrize(
        ("step", "answer", "kind"),
        [
            ("rcpt", "554 Message rejected: Email address is not verified.", Refused),
            ("rcpt", "454 Throttling failure: Maximum sending rate exceeded.", NotSent),
            ("data", "554 Transaction failed: Illegal header 'To'.", Refused),
            ("data", "451 Temporary service failure", NotSent),
            ("data", "250 Ok", MaybeSent),
        ],
    )
    def test_each_answer_means_what_it_says(
        self, endpoint: Endpoint, sending: SmtpSending, step: str, answer: str, kind: type[Exception]
    ) -> None:
        endpoint.answers[step] = answer
        with pytest.raises(kind) as failed:
            sending.send("ann@example.org", ["bob@example.com"], LETTER)
        assert answer[4:] in str(failed.value)

    def test_cut_off_after_the_message_nobody_knows(self, endpoint: Endpoint, sending: SmtpSending) -> None:
        endpoint.hang_up = True
        with pytest.raises(MaybeSent, match="not known"):
            sending.send("ann@example.org", ["bob@example.com"], LETTER)

    def test_a_wrong_credential_is_nothing_the_message_can_mend(
        self, endpoint: Endpoint, sending: SmtpSending
    ) -> None:
        wrong = SmtpSending(
            "localhost", endpoint.port, sending.tls, lambda: Credential("AKIAEXAMPLE", "wrong")
        )
        with pytest.raises(NotSent, match="535"):
            wrong.send("ann@example.org", ["bob@example.com"], LETTER)
        assert endpoint.taken == []

    def test_nobody_there(self, sending: SmtpSending) -> None:
        away = SmtpSending("localhost", 1, sending.tls, sending.credential)
        with pytest.raises(NotSent, match="check the network"):
            away.send("ann@example.org", ["bob@example.com"], LETTER)

    def test_an_address_that_smtp_cannot_say(self, sending: SmtpSending) -> None:
        with pytest.raises((Refused, NotSent)):
            sending.send("ann@example.org", ["jürgen@example.com"], LETTER)

    def test_another_certificate_is_refused(self, endpoint: Endpoint, sending: SmtpSending) -> None:
        stranger = SmtpSending("localhost", endpoint.port, ssl.create_default_context(), sending.credential)
        with pytest.raises(NotSent, match="certificate"):
            stranger.send("ann@example.org", ["bob@example.com"], LETTER)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path, "eu-central-1")
    made.open()
    return made


def copies(mail: Path) -> list[Path]:
    return sorted((mail / "ann" / "Maildir" / ".Sent").glob("[cn]*/*"))


class TestSpool:
    def test_a_sent_message_has_its_copy_in_sent(self, spool: Spool, tmp_path: Path) -> None:
        spool.settle(spool.sent(spool.hold(LETTER), SES_ID, "ann"))
        (copy,) = copies(tmp_path)
        assert copy.name.endswith(":2,S")
        assert f"Message-ID: <{SES_ID}@eu-central-1.amazonses.com>".encode() in copy.read_bytes()
        assert b"X-Original-Message-ID: <a@client>" in copy.read_bytes()
        assert spool.owed() == []
        assert os.listdir(tmp_path / ".server" / "relay") == []  # noqa: PTH208 - names alone

    def test_one_that_was_not_sent_leaves_nothing(self, spool: Spool, tmp_path: Path) -> None:
        spool.drop(spool.hold(LETTER))
        assert copies(tmp_path) == []
        assert spool.owed() == []

    def test_killed_before_the_answer_it_is_forgotten(self, spool: Spool, tmp_path: Path) -> None:
        spool.hold(LETTER)
        spool.open()
        assert spool.owed() == []
        assert copies(tmp_path) == []

    def test_killed_after_the_answer_its_copy_is_written_by_the_next_start(
        self, spool: Spool, tmp_path: Path
    ) -> None:
        spool.sent(spool.hold(LETTER), SES_ID, "ann")
        again = Spool(tmp_path, "eu-central-1")
        again.open()
        for owed in again.owed():
            again.settle(owed)
        assert len(copies(tmp_path)) == 1

    def test_killed_between_the_copy_and_its_end_there_is_one(
        self, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owed = spool.sent(spool.hold(LETTER), SES_ID, "ann")
        with monkeypatch.context() as patched:
            patched.setattr(Spool, "drop", lambda *_: None)
            spool.settle(owed)
        spool.settle(owed)
        assert len(copies(tmp_path)) == 1

    def test_a_disk_in_trouble_keeps_it_owed(self, spool: Spool, tmp_path: Path) -> None:
        owed = spool.sent(spool.hold(LETTER), SES_ID, "ann")
        (tmp_path / "ann").write_text("in the way")
        with pytest.raises(NotWritten):
            spool.settle(owed)
        assert spool.owed() == [owed]
        (tmp_path / "ann").unlink()
        spool.settle(owed)
        assert len(copies(tmp_path)) == 1

    def test_a_name_that_the_disk_does_not_take_is_tried_again(
        self, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = spool.hold(LETTER)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", lambda *_: os.open("/nowhere/at/all", os.O_RDONLY))
            with pytest.raises(NotWritten):
                spool.sent(held, SES_ID, "ann")
            assert spool.owed() == []
        for owed in spool.owed():
            spool.settle(owed)
        assert len(copies(tmp_path)) == 1

    def test_one_that_cannot_be_read_is_trouble_of_the_disk(
        self, spool: Spool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owed = spool.sent(spool.hold(LETTER), SES_ID, "ann")
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", lambda *_, **__: os.open("/nowhere/at/all", os.O_RDONLY))
            with pytest.raises(NotWritten):
                spool.settle(owed)
        assert spool.owed() == [owed]

    def test_what_a_crash_left_half_written_goes(self, spool: Spool, tmp_path: Path) -> None:
        left = tmp_path / ".server" / "relay" / ".0123.new.x7"
        left.write_bytes(b"half")
        spool.open()
        assert not left.exists()


class Taking:
    """SES that takes everything."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def send(self, source: str, destinations: Sequence[str], data: bytes) -> str:
        self.taken.append(bytes(data))
        return SES_ID


def test_after_ses_took_it_nothing_but_250_is_answered(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    relay = Relay(CONFIG, Taking(), spool, Log(log))

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "settle", broken)
        answer = relay.relay("ann", "ann@example.org", ("bob@example.com",), LETTER)
    assert answer == f"250 2.0.0 Ok {SES_ID}"
    assert "no copy yet" in log.getvalue()
    (owed,) = spool.owed()
    spool.settle(owed)
    assert len(copies(tmp_path)) == 1


@pytest.fixture
def relayed(spool: Spool) -> Iterator[tuple[smtplib.SMTP, Taking]]:
    """A client of the relay, logged in as Dovecot does it for ann; its messages may have 4,000 octets."""
    sending = Taking()
    relay = Relay(CONFIG, sending, spool, Log(io.StringIO()))
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(
        loop.create_server(lambda: Session(relay, "secret", CONFIG, 4000), "127.0.0.1", 0)
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with smtplib.SMTP("127.0.0.1", listening.sockets[0].getsockname()[1], timeout=10) as client:
            client.login("ann", "secret")
            yield client, sending
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        listening.close()
        loop.close()


def test_what_the_client_sent_leaves_to_the_octet(relayed: tuple[smtplib.SMTP, Taking]) -> None:
    client, sending = relayed
    for body in (b"body\r\n", b".\r\n..\r\n.a\r\n\r\n", b"\xff bare\nlf\r\n"):
        client.sendmail("ann@example.org", ["bob@example.com"], LETTER + body)
        assert sending.taken.pop() == LETTER + body


def test_what_is_too_large_is_refused_and_the_next_one_is_not(
    relayed: tuple[smtplib.SMTP, Taking],
) -> None:
    client, sending = relayed
    client.ehlo_or_helo_if_needed()
    # Not told by SIZE: found when it comes.
    for body, code in ((b"line\r\n" * 700, 552), (b"x" * 3000 + b"\r\n", 500), (b"x" * 1100 + b".\r\n", 500)):
        assert client.mail("ann@example.org")[0] == client.rcpt("bob@example.com")[0] == 250
        assert client.data(LETTER + body)[0] == code
    assert sending.taken == []
    client.sendmail("ann@example.org", ["bob@example.com"], LETTER)
    assert sending.taken == [LETTER]


@pytest.mark.parametrize(("memory", "places"), [(None, 4), (128 << 20, 1), (160 << 20, 2), (384 << 20, 4)])
def test_as_many_at_once_as_the_memory_has_room_for(memory: int | None, places: int) -> None:
    assert at_once(40 << 20, memory) == places
