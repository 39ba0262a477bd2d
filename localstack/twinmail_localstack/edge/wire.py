"""The content of a message on the wire: the octets between DATA and the final dot. Pure.

aiosmtpd's own reader refuses long lines and cannot hold back an oversized message, so the edge reads by
itself: only ``CRLF . CRLF`` ends a message, dots are unstuffed only after CRLF (RFC 5321, 4.5.2), and every
other octet, bare CR, bare LF and NUL included, is kept as it came.
"""

_LINE_END = b"\r\n"
_DOT = b"\r\n."


class DataDecoder:
    """Decodes a stream of chunks of any size.

    Attributes:
        done: the final dot was seen.
        size: octets of content so far, also of those thrown away beyond *limit*.
        rest: octets after the final dot; they belong to the next command.
    """

    def __init__(self, limit: int) -> None:
        self.done = False
        self.size = 0
        self.rest = b""
        self._limit = limit
        self._content = bytearray()
        # The DATA command's own line end: a dot on the very first line counts too.
        self._pending = bytearray(_LINE_END)
        self._skip = len(_LINE_END)

    @property
    def too_large(self) -> bool:
        """The content is larger than the limit, and is not held any more."""
        return self.size > self._limit

    @property
    def content(self) -> bytes:
        """The content; empty if it was too large."""
        return bytes(self._content)

    def feed(self, chunk: bytes) -> bool:
        """Decode *chunk*; return whether the message is complete."""
        pending = self._pending
        pending += chunk
        start = 0
        while not self.done:
            found = pending.find(_DOT, start)
            if found < 0:
                # The last octets may be the first of a CRLF and a dot.
                end = max(start, len(pending) - _partial(pending))
                self._keep(pending, start, end)
                del pending[:end]
                return False
            following = bytes(pending[found + 3 : found + 5])
            if following == _LINE_END:
                self._keep(pending, start, found + 2)
                self.rest = bytes(pending[found + 5 :])
                self.done = True
                pending.clear()
            elif following in (b"", b"\r"):
                self._keep(pending, start, found)
                del pending[:found]
                return False
            else:
                self._keep(pending, start, found + 2)
                start = found + 3
        return True

    def _keep(self, source: bytearray, start: int, end: int) -> None:
        start_of_content = start + min(self._skip, end - start)
        self._skip -= start_of_content - start
        self.size += end - start_of_content
        if self.too_large:
            # No buffer for what will be refused: the sender may go on for as long as it likes.
            self._content.clear()
        else:
            self._content += memoryview(source)[start_of_content:end]


def _partial(buffer: bytearray) -> int:
    """How many octets at the end of *buffer* could begin ``CRLF .``."""
    if buffer.endswith(_LINE_END):
        return 2
    return 1 if buffer.endswith(b"\r") else 0
