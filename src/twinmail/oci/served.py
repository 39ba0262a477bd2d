"""Image layouts as a registry that can only be read, on this machine's loopback address.

For engines that pull: whatever they have already they do not ask for. Source: OCI distribution spec v1.1,
"Pulling"; RFC 9110 section 14 for the ranges with which an engine goes on after a cut.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from twinmail.oci.destination import Destination
from twinmail.oci.push import Document, ImagePush, Progress

_PATH = re.compile(
    r"/v2/(?P<repository>[a-z0-9._/-]+)/(?P<kind>manifests|blobs)/(?P<digest>sha256:[0-9a-f]{64})"
)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_BLOCK = 1 << 17


@dataclass
class Served:
    """What has been served.

    Attributes:
        port: of the loopback address.
        octets: of layers and configs.
        blobs: digests of those, each time one was asked for.
    """

    port: int
    octets: int = 0
    blobs: list[str] = field(default_factory=list)


@contextmanager
def serve(
    images: Sequence[ImagePush],
    destination: Destination,
    progress: Progress,
) -> Iterator[Served]:
    """Serve *images* under the names that *destination* gives them, until the end of the block.

    What *progress* is told grows while the engine asks: nobody else knows what it misses.
    """
    manifests: dict[tuple[str, str], Document] = {}
    blobs: dict[tuple[str, str], Path] = {}
    for image in images:
        repository = destination.repository(image.name)
        for document in (image.index, *image.manifests.values()):
            manifests[repository, document.digest] = document
        for digest in image.blobs:
            blobs[repository, digest] = image.file(digest)
    server = _Server(manifests, blobs, progress)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        manifests: Mapping[tuple[str, str], Document],
        blobs: Mapping[tuple[str, str], Path],
        progress: Progress,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.manifests, self.blobs, self.progress = manifests, blobs, progress
        self.served = Served(self.server_port)
        self.guard = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        if self.path.rstrip("/") == "/v2":
            self._head(HTTPStatus.OK, 2, {"Content-Type": "application/json"})
            if body:
                self.wfile.write(b"{}")
            return
        match = _PATH.fullmatch(self.path.partition("?")[0])
        key = (match["repository"], match["digest"]) if match else ("", "")
        if match and match["kind"] == "manifests" and (document := self.server.manifests.get(key)):
            headers = {"Content-Type": document.media_type, "Docker-Content-Digest": document.digest}
            self._head(HTTPStatus.OK, len(document.octets), headers)
            if body:
                self.wfile.write(document.octets)
        elif match and match["kind"] == "blobs" and (file := self.server.blobs.get(key)):
            self._blob(file, match["digest"], body)
        else:
            self._head(HTTPStatus.NOT_FOUND, 0, {})

    def _blob(self, file: Path, digest: str, body: bool) -> None:
        size = file.stat().st_size
        first, last, status = 0, size - 1, HTTPStatus.OK
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
        }
        if (match := _RANGE.fullmatch(self.headers.get("Range", ""))) and int(match[1]) < size:
            first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._head(status, last - first + 1, headers)
        if not body:
            return
        with self.server.guard:
            self.server.served.blobs.append(digest)
            self.server.progress.start(1, last - first + 1)
        with file.open("rb") as stream:
            stream.seek(first)
            left = last - first + 1
            while left and (block := stream.read(min(_BLOCK, left))):
                self.wfile.write(block)
                left -= len(block)
                with self.server.guard:
                    self.server.served.octets += len(block)
                    self.server.progress.advance(digest, len(block))

    def _head(self, status: HTTPStatus, size: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the engine at the other end says what it does."""
