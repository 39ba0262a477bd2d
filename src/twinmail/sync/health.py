"""Health over HTTP on the loopback: is it alive, has it looked at the log, and what does it know.

``/healthz``  200 while the service runs.
``/readyz``   200 once the log was looked at. An outage of the cloud does not change that: mail that is here
              must stay served, and this may share its readiness with the IMAP server.
``/status``   everything, as JSON.
``/metrics``  figures, as Prometheus text.
``/messages/<ses-id>``  where one message is, as JSON (`twinmail.sync.whereabouts`).
``/restore``  POST: takes a request (`twinmail.sync.restore`); ``/status`` tells how far it is.
``/deliveries``  what the ledger and the Maildirs know, as a stream (`twinmail.delivery_lines`); with
              ``?deep=1`` each file is read. POST: mends (`twinmail.sync.deliveries`).
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from twinmail.delivery_lines import DEEP
from twinmail.delivery_lines import PATH as DELIVERIES
from twinmail.errors import PermanentError, TransientError

Status = Mapping[str, Any]
Find = Callable[[str], Mapping[str, Any]]
"""Where the message with an SES id is.

Raises:
    TwinmailError: the id is none, or the disk is in trouble.
"""

Submit = Callable[[bytes], Any]
"""Takes a request to restore or to mend, and returns what JSON takes, or None.

Raises:
    TwinmailError: it cannot be done (now).
"""

Reading = Callable[[bool], AbstractContextManager[Iterator[bytes]]]
"""What `twinmail.sync.deliveries.Deliveries.reading` gives.

Raises:
    TwinmailError: it cannot be read now.
"""

MESSAGES = "/messages/"
RESTORE = "/restore"
_REQUEST_OCTETS = 1 << 16
# Who reads a long stream sorts it meanwhile.
_STREAM_SECONDS = 120
PATHS = f"paths: /healthz /readyz /status /metrics {MESSAGES}SES-ID {DELIVERIES}\n"


def metrics(status: Status) -> str:
    """The figures of *status* in the Prometheus text format (version 0.0.4)."""
    figures = {
        "ready": int(status["ready"]),
        "delivered_total": status["delivered"],
        "in_flight": status["in_flight"],
        "backlog": status["backlog"],
        "retrying": len(status["retrying"]),
        "parked": len(status["parked"]),
        "full_mailboxes": len(status["full"]),
        "broken_scripts": len(status["broken_scripts"]),
        "log_suspicious": int(status["suspicion"] is not None),
        "manifest_age_seconds": (status["last"] or {}).get("manifest_age_ms", 0) / 1000,
    }
    lines = [f"twinmail_syncer_{name} {value}" for name, value in figures.items()]
    lines += [
        f'twinmail_syncer_outage{{what="{name}"}} {int(trouble is not None)}'
        for name, trouble in status["outages"].items()
    ]
    lines += [
        f'twinmail_syncer_chore_failing{{chore="{name}"}} {int(one["error"] is not None)}'
        for name, one in status["chores"].items()
    ]
    lines += [
        f'twinmail_syncer_filter_total{{what="{name}"}} {count}' for name, count in status["filters"].items()
    ]
    certificate = status.get("certificate") or {}
    if certificate.get("days_left") is not None:
        lines.append(f"twinmail_syncer_certificate_days_left {certificate['days_left']}")
    for figure in ("used", "quota", "waiting", "octets"):
        lines += [
            f'twinmail_syncer_full_mailbox_{figure}{{mailbox="{name}"}} {one[figure]}'
            for name, one in status["full"].items()
        ]
    return "\n".join(lines) + "\n"


class Health:
    """Serves what *status* and *find* return on *host* and *port* (0: any free one, see `port`)."""

    def __init__(
        self,
        host: str,
        port: int,
        status: Callable[[], Status],
        find: Find | None = None,
        submit: Submit | None = None,
        reading: Reading | None = None,
        mend: Submit | None = None,
    ) -> None:
        takes = {path: take for path, take in ((RESTORE, submit), (DELIVERIES, mend)) if take is not None}

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                if self.path.partition("?")[0] == DELIVERIES and reading is not None:
                    self._stream(reading)
                    return
                self._answer(*(_answers(self.path, status, find) or (404, "text/plain", PATHS)))

            def do_POST(self) -> None:
                length = self.headers.get("Content-Length", "")
                take = takes.get(self.path)
                if take is None:
                    self._answer(404, "text/plain", PATHS)
                elif not length.isdecimal() or int(length) > _REQUEST_OCTETS:
                    self._answer(413, "text/plain", f"expected a Content-Length up to {_REQUEST_OCTETS}\n")
                else:
                    self._answer(*_submitted(take, self.rfile.read(int(length))))

            def _stream(self, reading: Reading) -> None:
                if self.path not in (DELIVERIES, DEEP):
                    self._answer(400, "text/plain", f"expected {DELIVERIES} or {DEEP}, got {self.path}\n")
                    return
                self.connection.settimeout(_STREAM_SECONDS)
                try:
                    with reading(self.path == DEEP) as lines:
                        self.send_response(200)
                        self.send_header("Content-Type", "text/plain; charset=utf-8")
                        self.end_headers()
                        # Who asked may go away.
                        with suppress(OSError):
                            for line in lines:
                                self.wfile.write(line)
                except PermanentError as error:
                    self._answer(409, "text/plain", f"{error}\n")
                except TransientError as error:
                    self._answer(503, "text/plain", f"{error}\n")

            def _answer(self, code: int, kind: str, text: str) -> None:
                body = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes every few seconds are not worth a line."""

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _submitted(submit: Submit, request: bytes) -> tuple[int, str, str]:
    try:
        told = submit(request)
    except PermanentError as error:
        return 409, "text/plain", f"{error}\n"
    except TransientError as error:
        return 503, "text/plain", f"{error}\n"
    if told is not None:
        return 200, "application/json", json.dumps(told) + "\n"
    return 202, "text/plain", "accepted\n"


def _answers(path: str, status: Callable[[], Status], find: Find | None) -> tuple[int, str, str] | None:
    if path == "/healthz":
        return 200, "text/plain", "ok\n"
    if path == "/readyz":
        now = status()
        return (200, "text/plain", "ready\n") if now["ready"] else (503, "text/plain", "not ready\n")
    if path == "/status":
        return 200, "application/json", json.dumps(status(), default=str, indent=1) + "\n"
    if path == "/metrics":
        return 200, "text/plain", metrics(status())
    if path.startswith(MESSAGES) and find:
        try:
            return 200, "application/json", json.dumps(find(path.removeprefix(MESSAGES))) + "\n"
        except PermanentError as error:
            return 404, "text/plain", f"{error}\n"
        except TransientError as error:
            return 503, "text/plain", f"{error}\n"
    return None
