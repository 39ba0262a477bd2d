"""An S3 that holds a manifest of any length, made up while it is asked, and counts what it is asked.

Run as a process of its own, so that the one who is measured does not wait for it: ``python -m
bench.s3_listing KEYS NEW`` prints its port, and answers until its standard input ends.
"""

import bisect
import json
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from twinmail.layout import manifest_key

PAGE = 1000
COUNTS = "/_counts"
BODY = b"{}"
_TIME = "2026-11-23T10:00:00.000Z"


def keys(count: int, new: int, now: datetime) -> list[str]:
    """Keys of *count* entries, a minute apart until an hour ago, and of *new* ones of the last seconds."""
    old = now - timedelta(hours=1)
    found = [manifest_key(f"old{n:08}", old - timedelta(minutes=count - n)) for n in range(count)]
    return found + [manifest_key(f"new{n:08}", now - timedelta(seconds=new - n)) for n in range(new)]


class Server(ThreadingHTTPServer):
    """Serves *held*, which are sorted."""

    daemon_threads = True

    def __init__(self, held: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.held = held
        self.counts: Counter[str] = Counter()
        self.guard = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """GetObject and ListObjectsV2 (Amazon S3 API Reference), by path, for anybody."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == COUNTS:
            with self.server.guard:
                told = json.dumps(self.server.counts).encode()
                self.server.counts.clear()
            self._answer(told, "application/json")
            return
        listing = "list-type" in url.query
        with self.server.guard:
            self.server.counts["LIST" if listing else "GET"] += 1
        if listing:
            self._answer(self._listed({name: one[0] for name, one in parse_qs(url.query).items()}))
        elif "location" in url.query:
            self._answer(b"<LocationConstraint>eu-central-1</LocationConstraint>")
        else:
            self._answer(BODY, "application/json", whole="Range" not in self.headers)

    def do_HEAD(self) -> None:
        self._answer(b"")

    def _listed(self, asked: dict[str, str]) -> bytes:
        held, prefix = self.server.held, unquote(asked.get("prefix", ""))
        after = unquote(asked.get("continuation-token") or asked.get("start-after") or "")
        start = bisect.bisect_right(held, after) if after else bisect.bisect_left(held, prefix)
        page = held[start : start + PAGE]
        more = start + PAGE < len(held)
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_TIME}</LastModified><ETag>&quot;1&quot;</ETag>"
            f"<Size>{len(BODY)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>mail</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{PAGE}</MaxKeys>"
            f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}"
            "</ListBucketResult>"
        ).encode()

    def _answer(self, body: bytes, kind: str = "application/xml", whole: bool = True) -> None:
        self.send_response(200 if whole else 206)
        if not whole:
            # Every range that anybody asks for here has all of it.
            self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 10:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    """Serve until standard input ends."""
    server = Server(keys(int(sys.argv[1]), int(sys.argv[2]), datetime.now(UTC)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
