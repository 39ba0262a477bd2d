"""The proxy's connection to LocalStack, and how HTTP/1.1 says where a body ends."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from twinmail.chaos.proxy_request import Request, first_lines

LOOPBACK = "127.0.0.1"
HEAD_LIMIT = 256 * 1024
CHUNK = 64 * 1024
FORM_LIMIT = 1024 * 1024
"""Octets of a form that are read to know its operation; larger ones have none."""

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Truncated(Exception):
    """The answer was cut short."""


class Upstream:
    """The connection to LocalStack that belongs to one of a client."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: _Streams | None = None

    async def connect(self) -> None:
        """Have a connection.

        Raises:
            OSError: nobody listens.
        """
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(LOOPBACK, self._port, limit=HEAD_LIMIT)

    async def send(self, reader: asyncio.StreamReader, request: Request, form_body: bytes) -> None:
        """Pass on *request*, its body as it comes. Cut off in the middle, LocalStack's side is too."""
        assert self._streams is not None
        writer = self._streams[1]
        try:
            writer.write(request.head + form_body)
            if not form_body:
                async for chunk in body(reader, request.headers):
                    writer.write(chunk)
                    await writer.drain()
            await writer.drain()
        except (OSError, EOFError, ValueError):
            writer.transport.abort()

    async def answer(
        self, request: Request, client: asyncio.StreamWriter, *, hidden: bool, truncated: bool
    ) -> bool:
        """Pass on the answer; return whether both sides keep the connection.

        Args:
            hidden: nobody is to see it.
            truncated: end in the middle of its body, if it has one.

        Raises:
            Truncated: half of its body is out.
        """
        assert self._streams is not None
        reader = self._streams[0]
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            line, fields = first_lines(head)
            status = int(line.split(" ")[1])
            if status >= 200:
                break
            # 100 Continue: the client sends nothing before it, whether or not it is to see the rest.
            client.write(head)
            await client.drain()
        empty = request.method == "HEAD" or status in (204, 304)
        length = int(fields.get("content-length", -1))
        chunked = "transfer-encoding" in fields
        if truncated and not empty and (length > 1 or chunked):
            # Of chunks, the first announces more than there is.
            half = await reader.readexactly(length // 2) if length > 1 else b"ffff\r\n<"
            client.write(head + half)
            await client.drain()
            raise Truncated
        if not hidden:
            client.write(head)
        if not empty:
            async for chunk in body(reader, fields, until_end=True):
                if not hidden:
                    client.write(chunk)
                    await client.drain()
        await client.drain()
        said = fields.get("connection", "").lower(), request.headers.get("connection", "").lower()
        return "close" not in said and (empty or length >= 0 or chunked)

    def close(self) -> None:
        """Give the connection up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def body(
    reader: asyncio.StreamReader, fields: Mapping[str, str], until_end: bool = False
) -> AsyncIterator[bytes]:
    """The octets of a body as they come, chunk sizes included (RFC 9112, section 6.3)."""
    if "transfer-encoding" in fields:
        size = -1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            yield line
            if size:
                yield await reader.readexactly(size + 2)
        while line != b"\r\n":
            line = await reader.readuntil(b"\r\n")
            yield line
    elif "content-length" in fields:
        left = int(fields["content-length"])
        while left:
            chunk = await reader.read(min(left, CHUNK))
            if not chunk:
                raise EOFError
            left -= len(chunk)
            yield chunk
    elif until_end:
        while chunk := await reader.read(CHUNK):
            yield chunk


async def form(reader: asyncio.StreamReader, request: Request) -> bytes:
    """The whole body of *request* if its operation is in it; otherwise nothing, and it is still unread."""
    size = request.headers.get("content-length", "0")
    if request.is_form and "expect" not in request.headers and int(size) <= FORM_LIMIT:
        return await reader.readexactly(int(size))
    return b""
