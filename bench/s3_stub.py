"""A server that speaks as much S3 as reading a bucket takes, and is faster than every client it is used with.

nginx serves the objects as files; what lists them is a thread of this process, asked once for 1,000 keys.
There is no TLS, no check of signatures, and nothing can be written.
"""

import bisect
import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from twinmail.errors import PermanentError, TransientError
from twinmail.layout import MANIFEST
from twinmail.manifest import Entry

BUCKET = "bench-mail"
_START_SECONDS = 10.0
_PIPELINED = 200
_CONNECTIONS = 2
_ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
_CONFIGURATION = """\
{load}
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/t1;
  proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5;
  default_type application/octet-stream;
  map_hash_max_size 1048576;
  map_hash_bucket_size 256;
  map $uri $entry {{ include {entries}; }}
  server {{
    listen 127.0.0.1:{port};
    root {folder}/objects;
    add_header x-amz-meta-entry $entry;
    location = /{bucket} {{ proxy_pass http://127.0.0.1:{listing}; }}
    location = /{bucket}/ {{ proxy_pass http://127.0.0.1:{listing}; }}
    location / {{ {wait} }}
    location @objects {{ }}
  }}
}}
"""


class _Plain(ThreadingHTTPServer):
    # Clients come with all their connections at once; who finds the queue full waits a second.
    request_queue_size = 512
    daemon_threads = True


@dataclass(frozen=True)
class Page:
    """One answer to ListObjects: keys, common prefixes, and where to go on, empty at the end."""

    keys: tuple[str, ...]
    prefixes: tuple[str, ...]
    following: str


def page(keys: Sequence[str], asked: Mapping[str, str]) -> Page:
    """What S3 answers about the sorted *keys* if *asked* so (API reference, ListObjectsV2)."""
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
    most = min(1000, int(asked.get("max-keys", "1000")))
    after = asked.get("continuation-token") or asked.get("start-after") or asked.get("marker") or ""
    at = max(bisect.bisect_right(keys, after) if after else 0, bisect.bisect_left(keys, prefix))
    found: list[str] = []
    prefixes: list[str] = []
    last = ""
    while at < len(keys) and keys[at].startswith(prefix):
        if len(found) + len(prefixes) == most:
            return Page(tuple(found), tuple(prefixes), last)
        end = keys[at].find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            last = keys[at]
            found.append(last)
            at += 1
        else:
            prefixes.append(keys[at][: end + len(delimiter)])
            # Sorts after every key that starts with it.
            last = prefixes[-1] + "\uffff"
            at = bisect.bisect_left(keys, last)
    return Page(tuple(found), tuple(prefixes), "")


@contextmanager
def serving(folder: Path, latency: float = 0.0) -> Iterator[str]:
    """Serve the files below ``objects/BUCKET`` of *folder*; yields the URL of the endpoint.

    With *latency*, each object comes that many seconds later.

    Raises:
        PermanentError: nginx is not installed, or not its part that waits.
        TransientError: it does not start.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise PermanentError("nginx is not installed; install it (Debian: apt install nginx-light)")
    if latency and not _ECHO.exists():
        raise PermanentError(f"{_ECHO} is missing; install it (Debian: apt install libnginx-mod-http-echo)")
    listing = plain(folder / "objects" / BUCKET)
    port = _free_port()
    configuration = folder / "nginx.conf"
    entries = folder / "entries.conf"
    entries.write_text("".join(_metadata(folder / "objects" / BUCKET)))
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder,
            entries=entries,
            port=port,
            bucket=BUCKET,
            listing=listing.server_address[1],
            # Else its worker would be somebody who may not enter the folder.
            user="user root;" if os.geteuid() == 0 else "",
            load=f"load_module {_ECHO};" if latency else "",
            wait=f"echo_sleep {latency:.3f}; echo_exec @objects;" if latency else "",
        )
    )
    with (folder / "nginx.log").open("wb") as log:
        command = [program, "-c", str(configuration), "-p", str(folder)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _answers(port, process, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        listing.shutdown()
        listing.server_close()


def _metadata(objects: Path) -> Iterator[str]:
    """The metadata that the processor gives each message, as lines of nginx."""
    for path in (objects / MANIFEST).rglob("*.json"):
        entry = Entry.from_bytes(path.read_bytes())
        for told in entry.to_metadata().values():
            escaped = told.replace("\\", "\\\\").replace('"', '\\"')
            yield f'"/{BUCKET}/{entry.key}" "{escaped}";\n'


def _etag(objects: Path, key: str) -> str:
    """As of an object that was put in one piece; of entries only, because nobody asks for others."""
    if not key.startswith(MANIFEST):
        return "0123456789abcdef0123456789abcdef-1"
    return hashlib.md5((objects / key).read_bytes(), usedforsecurity=False).hexdigest()


def ceiling(endpoint: str, keys: Sequence[str]) -> float:
    """Objects a second to a client that does nothing with them: requests in a row, answers thrown away."""
    address = urlsplit(endpoint)
    parts = [keys[at : at + _PIPELINED] for at in range(0, len(keys), _PIPELINED)]
    waiting = iter(parts)
    lock = threading.Lock()

    def fetch() -> None:
        while True:
            with lock:
                part = next(waiting, None)
            if part is None:
                return
            lines = [f"GET /{BUCKET}/{quote(key)} HTTP/1.1\r\nHost: x\r\n" for key in part]
            with socket.create_connection((address.hostname, address.port)) as connection:
                connection.sendall(("\r\n".join(lines) + "Connection: close\r\n\r\n").encode())
                while connection.recv(1 << 20):
                    pass

    threads = [threading.Thread(target=fetch) for _ in range(_CONNECTIONS)]
    began = time.monotonic()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return len(keys) / (time.monotonic() - began)


def plain(objects: Path) -> ThreadingHTTPServer:
    """A server of the files below *objects* that lists them too; nginx, which is faster, asks it for lists.

    Shut it down and close it in the end.
    """
    sizes = {
        str(path.relative_to(objects)): path.stat().st_size for path in objects.rglob("*") if path.is_file()
    }
    keys = sorted(sizes)
    etags = {key: _etag(objects, key) for key in keys}

    class Handler(BaseHTTPRequestHandler):
        """Answers GET of the bucket and of what is in it."""

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            key = unquote(url.path).removeprefix(f"/{BUCKET}").removeprefix("/")
            if not key:
                asked = {
                    name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()
                }
                self._answer(200, "application/xml", _document(page(keys, asked), asked, sizes, etags))
            elif key in sizes:
                data = (objects / key).read_bytes()
                start, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
                if last:
                    asked_for = data[int(start) : int(last) + 1]
                    at = f"bytes {start}-{int(start) + len(asked_for) - 1}/{len(data)}"
                    self._answer(206, "application/octet-stream", asked_for, at)
                else:
                    self._answer(200, "application/octet-stream", data)
            else:
                self._answer(404, "application/xml", b"<Error><Code>NoSuchKey</Code></Error>")

        def _answer(self, status: int, kind: str, data: bytes, at: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT")
            self.send_header("Content-Length", str(len(data)))
            if at:
                self.send_header("Content-Range", at)
            self.end_headers()
            self.wfile.write(data)

    server = _Plain(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _document(
    found: Page, asked: Mapping[str, str], sizes: Mapping[str, int], etags: Mapping[str, str]
) -> bytes:
    def text(key: str) -> str:
        return quote(key) if asked.get("encoding-type") == "url" else escape(key)

    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{text(asked.get('prefix', ''))}</Prefix>"
        f"<KeyCount>{len(found.keys) + len(found.prefixes)}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>{str(bool(found.following)).lower()}</IsTruncated>"
    ]
    if "encoding-type" in asked:
        parts.append("<EncodingType>url</EncodingType>")
    if found.following:
        token = text(found.following)
        parts.append(
            f"<NextContinuationToken>{token}</NextContinuationToken><NextMarker>{token}</NextMarker>"
        )
    parts += (
        f"<Contents><Key>{text(key)}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        f'<ETag>"{etags[key]}"</ETag>'
        f"<Size>{sizes[key]}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key in found.keys
    )
    parts += (f"<CommonPrefixes><Prefix>{text(one)}</Prefix></CommonPrefixes>" for one in found.prefixes)
    return "".join([*parts, "</ListBucketResult>"]).encode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TransientError(f"nginx does not start: {(folder / 'nginx.log').read_text()[-500:]}")
