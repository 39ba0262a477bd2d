"""The Lambda runtime API on a loopback port of its own, for one process.

Source: AWS Lambda guide, "Using the Lambda runtime API": the runtime asks for the next event and answers it.
"""

import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/2018-06-01/runtime"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Event:
    """One invocation as the runtime gets it.

    Attributes:
        deadline_ms: when the function times out, Unix milliseconds.
    """

    request_id: str
    payload: bytes
    function_arn: str
    deadline_ms: int
    trace_id: str


@dataclass(frozen=True)
class Answer:
    """What the runtime said about one event, or about its own start (*request_id* is empty then)."""

    request_id: str
    payload: bytes
    is_error: bool


class RuntimeApi:
    """The state between one runtime process and its sandbox; every wait ends when the process is given up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._event: Event | None = None
        self._answer: Answer | None = None
        self._idle = False
        self._closed = False
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="lambda-runtime-api", daemon=True
        ).start()

    @property
    def address(self) -> str:
        """``host:port``, the value of ``AWS_LAMBDA_RUNTIME_API``."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def offer(self, event: Event) -> None:
        """Make *event* the answer to the next request for an event."""
        with self._changed:
            self._event, self._answer = event, None
            self._changed.notify_all()

    def idle(self) -> bool:
        """Whether the runtime has initialised and waits for an event."""
        with self._changed:
            return self._idle

    def wait(self, seconds: float) -> Answer | None:
        """Return the answer, or None when there is none after *seconds* or the runtime only became idle."""
        with self._changed:
            if self._answer is None:
                self._changed.wait(seconds)
            return self._answer

    def close(self) -> None:
        """Stop serving; a request that waits for an event gets an error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def next(self) -> Event | None:
        """Block until there is an event; None when the sandbox is closed."""
        with self._changed:
            self._idle = True
            self._changed.notify_all()
            while self._event is None and not self._closed:
                self._changed.wait()
            event, self._event, self._idle = self._event, None, False
            return event

    def answer(self, answer: Answer) -> None:
        """Take the answer to the event in hand."""
        with self._changed:
            self._answer = answer
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: RuntimeApi

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a killed process resets its connection."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # One write for header and body: two would wait for a delayed acknowledgement.
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path != f"{PREFIX}/invocation/next":
            self._reply(HTTPStatus.NOT_FOUND)
            return
        event = self.server.api.next()
        if event is None:
            self._reply(HTTPStatus.GONE)
            return
        self._reply(
            HTTPStatus.OK,
            event.payload,
            {
                "Lambda-Runtime-Aws-Request-Id": event.request_id,
                "Lambda-Runtime-Deadline-Ms": str(event.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": event.function_arn,
                "Lambda-Runtime-Trace-Id": event.trace_id,
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        head, _, kind = self.path.rpartition("/")
        if self.path == f"{PREFIX}/init/error":
            self.server.api.answer(Answer("", body, is_error=True))
        elif head.startswith(f"{PREFIX}/invocation/") and kind in ("response", "error"):
            self.server.api.answer(Answer(head.rpartition("/")[2], body, is_error=kind == "error"))
        else:
            self._reply(HTTPStatus.NOT_FOUND)
            return
        self._reply(HTTPStatus.ACCEPTED)

    def _reply(self, status: HTTPStatus, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        # Always with a type: the runtime's native client crashes on an event without one.
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: LocalStack logs invocations."""
