"""SES's answers, sorted by what they mean for a second attempt: through botocore, from a server of our own."""

import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest

from twinmail.outgoing import MESSAGE_BYTES, SETTINGS, MaybeSent, NotSent, Refused, SesSending

OK = (
    '<SendRawEmailResponse xmlns="http://ses.amazonaws.com/doc/2010-12-01/"><SendRawEmailResult>'
    "<MessageId>0102abc</MessageId></SendRawEmailResult></SendRawEmailResponse>"
)
ERROR = (
    '<ErrorResponse xmlns="http://ses.amazonaws.com/doc/2010-12-01/"><Error><Type>Sender</Type>'
    "<Code>{code}</Code><Message>what it says</Message></Error></ErrorResponse>"
)


class Ses(http.server.ThreadingHTTPServer):
    """Answers everything with *status* and *text*; a status of 0 closes the connection instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.text = 200, OK
        self.requests: list[bytes] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Ses

    def do_POST(self) -> None:
        self.server.requests.append(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status == 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        data = self.server.text.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ses() -> Iterator[Ses]:
    server = Ses()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def sending(port: int) -> SesSending:
    session: Any = botocore.session.get_session()
    session.set_credentials("test", "test")
    return SesSending(
        session.create_client(
            "ses",
            region_name="eu-central-1",
            endpoint_url=f"http://127.0.0.1:{port}",
            config=SETTINGS,
        )
    )


def test_sent_message_has_the_id_that_ses_gave(ses: Ses) -> None:
    sent = sending(ses.server_port).send("ann@example.org", ["bob@example.com"], b"Subject: x\r\n\r\n\xff")
    assert sent == "0102abc"
    (request,) = ses.requests
    assert b"Source=ann%40example.org" in request and b"bob%40example.com" in request


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "MessageRejected", Refused),
        (400, "MailFromDomainNotVerified", Refused),
        (400, "InvalidParameterValue", Refused),
        (400, "Throttling", NotSent),
        (503, "ServiceUnavailable", NotSent),
        (400, "AccountSendingPaused", NotSent),
        (403, "AccessDenied", NotSent),
        (403, "InvalidClientTokenId", NotSent),
        (500, "InternalFailure", MaybeSent),
        (502, "Whatever", MaybeSent),
    ],
)
def test_errors_say_whether_to_try_again(ses: Ses, status: int, code: str, kind: type[Exception]) -> None:
    ses.status, ses.text = status, ERROR.format(code=code)
    with pytest.raises(kind, match=rf"ann@example\.org|{code}") as caught:
        sending(ses.server_port).send("ann@example.org", ["bob@example.com"], b"x")
    assert type(caught.value) is kind
    assert len(ses.requests) == 1, "nothing is repeated behind the caller's back"


def test_connection_that_ends_before_the_answer_may_have_sent(ses: Ses) -> None:
    ses.status = 0
    with pytest.raises(MaybeSent):
        sending(ses.server_port).send("ann@example.org", ["bob@example.com"], b"x")
    assert len(ses.requests) == 1


def test_nobody_listens_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotSent):
        sending(port).send("ann@example.org", ["bob@example.com"], b"x")


@pytest.mark.parametrize(
    ("recipients", "data", "text"),
    [
        (["a@example.com"], b"x" * (MESSAGE_BYTES + 1), "expected at most 10485760 octets, got 10485761"),
        ([], b"x", "expected 1 to 50 recipients, got 0"),
        (["a@example.com"] * 51, b"x", "got 51"),
    ],
)
def test_what_ses_would_refuse_is_not_even_asked(
    ses: Ses, recipients: list[str], data: bytes, text: str
) -> None:
    with pytest.raises(Refused, match=text):
        sending(ses.server_port).send("ann@example.org", recipients, data)
    assert not ses.requests
