"""Asking Pigeonhole: the client's side of LMTP, what is taken down, and what the shadow says."""

import socket
import struct
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from smtplib import SMTP

import pytest

from tests.pigeonhole_stub import PigeonholeStub, Received
from twinmail.durable_file import NotWritten
from twinmail.filter import capture
from twinmail.filter.capture import Capture, Submission
from twinmail.filter.decision import Outgoing, Placement
from twinmail.filter.lmtp import LmtpAway, LmtpRefused, xtext
from twinmail.filter.pigeonhole import Answer, Pigeonhole, Question, answer
from twinmail.filter.shadow import Left, duplicates, sweep

WHEN = datetime(2026, 11, 26, 6, 5, 37, tzinfo=UTC)
VACATION = b"Subject: Weg\r\nAuto-Submitted: auto-replied (vacation)\r\n\r\nBin weg\r\n"


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    # Longer than a unix socket's path may be.
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    return folder


@pytest.fixture
def question(tmp_path: Path) -> Question:
    path = tmp_path / "message"
    path.write_bytes(b"Subject: hello\r\n\r\n.\r\n\nbody")
    return Question("ann", "INBOX", "bob@example.com", "ann+a b@example.org", path)


class TestQuestion:
    def test_envelope_and_octets(self, mail: Path, question: Question) -> None:
        with PigeonholeStub(mail) as stub:
            assert Pigeonhole(mail).ask(question) == Answer((Placement("INBOX"),), (), ())
        (one,) = stub.received
        assert (one.mail_from, one.recipient) == ("bob@example.com", "ann+2Ba+20b@example.org")
        name, _, domain = one.user.partition("@")
        token, port, last = domain.split(".")
        assert (name, last) == ("ann", "decide") and len(token) == 16 and int(port) > 0
        assert one.message == b"X-Twinmail-Folder: INBOX\r\nSubject: hello\r\n\r\n.\r\n\nbody"

    def test_long_message_goes_in_pieces(self, mail: Path, question: Question) -> None:
        body = bytes(range(256)) * 10_000
        question.message.write_bytes(body)
        with PigeonholeStub(mail) as stub:
            Pigeonhole(mail).ask(question)
        assert stub.received[0].message.endswith(body)

    def test_sender_that_is_refused_counts_as_empty(self, mail: Path, question: Question) -> None:
        with (
            PigeonholeStub(mail, replies={"MAIL": "501 no"}) as stub,
            pytest.raises(LmtpRefused, match="501"),
        ):
            Pigeonhole(mail).ask(question)
        assert stub.received == []

    def test_shadow_is_removed(self, mail: Path, question: Question) -> None:
        with PigeonholeStub(mail) as stub:
            Pigeonhole(mail).ask(question)
            stub.replies = {"LAST": "451 later"}
            with pytest.raises(LmtpAway):
                Pigeonhole(mail).ask(question)
        assert list((mail / ".server" / "decide").iterdir()) == []

    def test_shadows_of_a_killed_process_are_swept(self, mail: Path) -> None:
        (mail / ".server" / "decide" / "abc" / "Maildir").mkdir(parents=True)
        sweep(mail)
        assert list((mail / ".server" / "decide").iterdir()) == []
        sweep(mail / "nowhere")

    def test_message_that_is_gone(self, mail: Path, question: Question) -> None:
        question.message.unlink()
        with PigeonholeStub(mail), pytest.raises(NotWritten, match="cannot be read"):
            Pigeonhole(mail).ask(question)


class TestTrouble:
    def test_nobody_listens(self, mail: Path, question: Question) -> None:
        with pytest.raises(LmtpAway, match="is Dovecot running"):
            Pigeonhole(mail).ask(question)

    def test_nobody_answers(self, mail: Path, question: Question) -> None:
        with PigeonholeStub(mail, silent=True), pytest.raises(LmtpAway, match="timed out"):
            Pigeonhole(mail, seconds=0.2).ask(question)

    @pytest.mark.parametrize("verb", ["connect", "LHLO", "MAIL", "RCPT", "BDAT", "LAST"])
    def test_not_now(self, mail: Path, question: Question, verb: str) -> None:
        with PigeonholeStub(mail, replies={verb: "451 4.3.0 later"}), pytest.raises(LmtpAway, match="later"):
            Pigeonhole(mail).ask(question)

    @pytest.mark.parametrize("verb", ["RCPT", "LAST"])
    def test_never(self, mail: Path, question: Question, verb: str) -> None:
        with PigeonholeStub(mail, replies={verb: "550 5.1.1 who"}), pytest.raises(LmtpRefused, match="who"):
            Pigeonhole(mail).ask(question)


class TestShadow:
    def test_folders_flags_and_keywords(self, mail: Path, question: Question) -> None:
        files = {
            "Maildir/new/1.copy": b"",
            "Maildir/.Lists.python/cur/2.copy,S=1:2,SFa": b"",
            "Maildir/.Lists.python/dovecot-keywords": b"0 $label1\n1 other\n",
            "Maildir/.A/cur/3.copy:2,b": b"",
            "Maildir/.Empty/new/.keep": b"",
        }
        del files["Maildir/.Empty/new/.keep"]
        with PigeonholeStub(mail, files=files):
            assert Pigeonhole(mail).ask(question).placements == (
                Placement("INBOX"),
                Placement("A"),
                Placement("Lists.python", "FS", ("$label1",)),
            )

    def test_nothing_left_is_a_discard(self, mail: Path, question: Question) -> None:
        with PigeonholeStub(mail, files={}):
            assert Pigeonhole(mail).ask(question).placements == (Placement("Trash"),)

    def test_complaints(self, mail: Path, question: Question) -> None:
        log = b"sieve: info: started log at now.\nmain: line 1: error: unknown command 'x'.\n"
        files = {"Maildir/new/1.copy": b"", "errors.log": log}
        junk = Question("ann", "Junk", "", "ann@example.org", question.message)
        with PigeonholeStub(mail, files=files):
            found = Pigeonhole(mail).ask(junk)
        assert found.complaints == ("main: line 1: error: unknown command 'x'.",)
        # Pigeonhole's own fallback is INBOX; ours is where the message would have gone.
        assert found.placements == (Placement("Junk"),)

    def test_memory_of_answers(self) -> None:
        digest, stamp = bytes(range(16)), int(WHEN.timestamp())
        data = struct.pack("=I", 2)
        data += struct.pack("=III", stamp, 5, 3) + b"<1@x>" + b"ann"
        data += struct.pack("=III", stamp, 16, 3) + digest + b"ann"
        assert duplicates(data) == ((digest.hex(), WHEN),)
        for damaged in (b"", data[:-1], struct.pack("=I", 9) + data[4:], data[:10]):
            assert duplicates(damaged) == ()


class TestAnswer:
    QUESTION = Question("ann", "INBOX", "", "ann@example.org", Path("message"))

    def outgoing(self, message: bytes, whole: bool = True) -> Outgoing:
        left = Left((), (("ab" * 16, WHEN),), ())
        (one,) = answer(self.QUESTION, left, (Submission("", ("b@example.com",), message, whole),)).outgoing
        return one

    def test_vacation_keeps_message_and_memory(self) -> None:
        assert self.outgoing(VACATION) == Outgoing(
            "vacation", "", ("b@example.com",), VACATION, "ab" * 16, WHEN
        )

    def test_redirect_keeps_neither(self) -> None:
        message = b"X-Sieve-Redirected-From: ann\r\n" + VACATION
        assert self.outgoing(message) == Outgoing("redirect", "", ("b@example.com",))

    def test_what_is_cut_off_is_never_sent(self) -> None:
        assert self.outgoing(VACATION, whole=False) == Outgoing("other", "", ("b@example.com",))

    def test_body_says_nothing_about_the_kind(self) -> None:
        assert self.outgoing(b"Subject: x\r\n\r\n" + VACATION).kind == "other"


class TestCapture:
    def test_takes_down_what_is_sent(self) -> None:
        listener = Capture()
        for number in range(2):
            with SMTP("127.0.0.1", listener.port, timeout=10) as smtp:
                smtp.sendmail(
                    "", ["a@example.com", "b@example.com"], b"Subject: %d\r\n\r\n.\r\n..\r\n" % number
                )
        first, second = listener.close()
        assert (first.mail_from, first.rcpt_to) == ("", ("a@example.com", "b@example.com"))
        assert first.message == b"Subject: 0\r\n\r\n.\r\n..\r\n" and first.whole
        assert second.message.startswith(b"Subject: 1")

    def test_keeps_only_so_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(capture, "MESSAGE_LIMIT", 10)
        listener = Capture()
        with SMTP("127.0.0.1", listener.port, timeout=10) as smtp:
            smtp.sendmail("", ["a@example.com"], b"x" * 200_000 + b"\r\n.y\r\n")
        (one,) = listener.close()
        assert one.message == b"x" * 10 and not one.whole

    def test_half_a_session_is_nothing(self) -> None:
        listener = Capture()
        with closing(socket.create_connection(("127.0.0.1", listener.port))) as connection:
            connection.sendall(b"EHLO x\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\nhello\r\n")
        assert listener.close() == ()

    def test_commands_it_does_not_know(self) -> None:
        listener = Capture()
        with SMTP("127.0.0.1", listener.port, timeout=10) as smtp:
            assert smtp.docmd("BDAT", "0 LAST")[0] == 502
            assert smtp.noop()[0] == 250
        assert listener.close() == ()

    def test_belongs_to_the_question_that_named_its_port(self, mail: Path, question: Question) -> None:
        def answering(one: Received) -> None:
            port = int(one.user.split(".")[1])
            with SMTP("127.0.0.1", port, timeout=10) as smtp:
                smtp.sendmail("", [one.mail_from], VACATION)

        with PigeonholeStub(mail, then=answering):
            (sent,) = Pigeonhole(mail).ask(question).outgoing
        assert (sent.kind, sent.rcpt_to, sent.message) == ("vacation", ("bob@example.com",), VACATION)


def test_xtext() -> None:
    assert xtext("a+b=c d@é") == "a+2Bb+3Dc+20d@+C3+A9"
