"""A proxy on loopback between one client and LocalStack, which answers as a cloud in trouble does.

Requests are passed on octet by octet, so signatures stay what they are. A rule picks requests by service and
operation, with its own sequence of random numbers: with the same seed, the same of its requests are picked.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, TypeVar

from twinmail.chaos import proxy_answer
from twinmail.chaos.proxy_request import Request
from twinmail.chaos.proxy_rule import Active, Effect, Rule
from twinmail.chaos.proxy_upstream import HEAD_LIMIT, LOOPBACK, Truncated, Upstream, body, form

Result = TypeVar("Result")

_INSTEAD = {
    Effect.ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    Effect.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Effect.THROTTLED: HTTPStatus.TOO_MANY_REQUESTS,
}


class Cut(Enum):
    """How a network is cut: connections are reset at once, or nothing ever answers; and how it is counted."""

    RESET = "network-cut"
    SILENT = "network-silent"


class _Reset(Exception):
    """The client's connection is to be reset."""


class Proxy:
    """Listens on a loopback port and passes on to *upstream*, in a thread of its own.

    Attributes:
        port: where it listens, once started.
    """

    def __init__(self, upstream: int, seed: int = 0, port: int = 0) -> None:
        self.port = port
        self._upstream = upstream
        self._seed = seed
        self._guard = threading.Lock()
        self._rules: dict[str, Active] = {}
        self._added: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._cut: Cut | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """What the client takes for LocalStack's endpoint."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def counts(self) -> Mapping[str, int]:
        """How many requests met each rule, by its name, or a network that was cut."""
        with self._guard:
            return dict(self._counts)

    def start(self) -> "Proxy":
        """Begin to listen."""
        self._thread.start()
        self._server = self._do(
            asyncio.start_server(self._serve, LOOPBACK, self.port, limit=HEAD_LIMIT, backlog=256)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Reset every connection and end; a second time does nothing."""
        if self._loop.is_closed():
            return
        if self._server is not None:
            self._do(self._close(self._server))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def add(self, rule: Rule) -> None:
        """Put *rule* in force, with a random sequence of its own; one of the same name goes."""
        with self._guard:
            self._added[rule.name] += 1
            self._rules[rule.name] = Active(rule, f"{self._seed}/{rule.name}/{self._added[rule.name]}")

    def remove(self, name: str) -> None:
        """End the rule *name*; one that is not in force stays so."""
        with self._guard:
            self._rules.pop(name, None)

    def cut(self, how: Cut = Cut.RESET) -> None:
        """Cut the network: no connection lives on, and none is made."""
        self._cut = how
        self._do(self._reset_all())

    def mend(self) -> None:
        """Undo `cut`; what waits in silence is reset, as by a host that comes back."""
        if self._cut is not None:
            self._cut = None
            self._do(self._reset_all())

    # In the thread

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        await self._reset_all()
        tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reset_all(self) -> None:
        for writer in tuple(self._open):
            _reset(writer)

    def _picked(self, service: str, operation: str, path: str) -> Rule | None:
        with self._guard:
            for active in self._rules.values():
                if active.rule.covers(service, operation, path) and active.picks():
                    return active.rule
        return None

    def _count(self, name: str) -> None:
        with self._guard:
            self._counts[name] += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        upstream = Upstream(self._upstream)
        try:
            if self._cut is Cut.RESET:
                self._count(Cut.RESET.value)
                raise _Reset
            while await self._exchange(reader, writer, upstream):
                pass
            writer.close()
        except (_Reset, OSError, EOFError, asyncio.LimitOverrunError, ValueError):
            # Whatever broke, LocalStack's side or the client's: the other one sees it break.
            _reset(writer)
        except asyncio.CancelledError:
            # By `stop`. Python 3.11's streams log the end of a handler that is cancelled, so it ends well.
            _reset(writer)
        finally:
            upstream.close()
            self._open.discard(writer)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream
    ) -> bool:
        """Pass on one request and its answer; return whether the connection lives on."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return False
        if self._cut is Cut.SILENT:
            # Until `mend` or the client gives up.
            self._count(Cut.SILENT.value)
            await reader.read()
            raise _Reset
        request = Request.parse(head)
        form_body = await form(reader, request)
        rule = self._picked(request.service, request.operation(form_body), request.target)
        effect = rule.effect if rule else None
        if rule and effect is not Effect.TRUNCATED:
            self._count(rule.name)
        if rule and effect in _INSTEAD:
            await self._refuse(reader, writer, request, form_body, _INSTEAD[rule.effect])
            return False
        if effect is Effect.RESET:
            raise _Reset
        if rule and effect is Effect.SLOW:
            await asyncio.sleep(rule.seconds)
        await upstream.connect()
        sending = asyncio.ensure_future(upstream.send(reader, request, form_body))
        try:
            hidden = effect in (Effect.LOST, Effect.ERROR_AFTER)
            alive = await upstream.answer(
                request, writer, hidden=hidden, truncated=effect is Effect.TRUNCATED
            )
            # An answer before the end of the request: the rest of it is no request of its own.
            alive = alive and sending.done()
        except Truncated:
            if rule:
                self._count(rule.name)
            raise _Reset from None
        finally:
            sending.cancel()
        if effect is Effect.LOST:
            raise _Reset
        if effect is Effect.ERROR_AFTER:
            writer.write(_error(request, HTTPStatus.INTERNAL_SERVER_ERROR))
            await writer.drain()
            return False
        return alive

    async def _refuse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: Request,
        form_body: bytes,
        status: HTTPStatus,
    ) -> None:
        if "expect" not in request.headers and not form_body:
            # Closed with unread octets, a connection is reset, and the answer may be lost with it.
            async for _ in body(reader, request.headers):
                pass
        writer.write(_error(request, status))
        await writer.drain()


def _error(request: Request, status: HTTPStatus) -> bytes:
    return proxy_answer.error(request.service, status, request.method == "HEAD")


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST instead of FIN (socket(7), SO_LINGER of zero seconds)."""
    if (sock := writer.get_extra_info("socket")) is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
