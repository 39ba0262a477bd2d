"""How many requests the syncer makes of S3: what they bring is for the contract of sources."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

from tests.log_simulator import entry_of
from twinmail.layout import MANIFEST, manifest_key
from twinmail.manifest import Entry
from twinmail.sync import s3
from twinmail.sync.aws import Aws
from twinmail.sync.s3 import S3Source

START = datetime(2026, 11, 22, tzinfo=UTC)
MOST = 1000
COUNT = 100


class Bucket(ThreadingHTTPServer):
    """GetObject of ranges and ListObjectsV2 on one page; *asked* has the keys of all GETs."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.status = 0

    def commit(self, number: int, body: bytes, earlier: timedelta = timedelta(0)) -> str:
        committed = START + timedelta(minutes=number)
        entry = entry_of(f"id{number}", body, committed - earlier)
        key = manifest_key(entry.ses_id, committed)
        self.objects |= {entry.key: body, key: entry.to_bytes()}
        self.metadata[entry.key] = entry.to_metadata()
        return key


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix("/mail").removeprefix("/")
        if not key:
            rows = "".join(
                f"<Contents><Key>{one}</Key><LastModified>2026-11-22T00:00:00.000Z</LastModified>"
                f'<ETag>"{hashlib.md5(data).hexdigest()}"</ETag><Size>{len(data)}</Size></Contents>'
                for one, data in sorted(self.server.objects.items())
                if one.startswith(MANIFEST)
            )
            self._answer(
                200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()
            )
            return
        self.server.asked.append(key)
        if self.server.status and not key.startswith(MANIFEST):
            self._answer(self.server.status, b"<Error><Code>AccessDenied</Code></Error>")
        elif key not in self.server.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            data = self.server.objects[key]
            start, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            part = data[start : last + 1]
            told = {f"x-amz-meta-{name}": one for name, one in self.server.metadata.get(key, {}).items()}
            told["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
            self._answer(206, part, told)

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        told = {"ETag": '"1"', "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT", **(headers or {})}
        for name, value in told.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    server = Bucket()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield server
    server.shutdown()
    server.server_close()


def read(bucket: Bucket) -> dict[str, tuple[bytes, bytes | None]]:
    """All entries, as a server that is new reads them."""
    source = S3Source("mail", Aws("eu-central-1"))
    taken: dict[str, tuple[bytes, bytes | None]] = {}
    for page in source.keys_after(MANIFEST):
        source.each_entry(page, MOST, lambda *told: taken.update({told[0]: told[1:]}))
    assert {key: entry for key, (entry, _) in taken.items()} == {
        key: data for key, data in bucket.objects.items() if key.startswith(MANIFEST)
    }
    return taken


def test_one_request_brings_an_entry_and_its_message(bucket: Bucket) -> None:
    for number in range(COUNT):
        bucket.commit(number, b"message %d" % number)
    for key, (entry, message) in read(bucket).items():
        assert message == bucket.objects[Entry.from_bytes(entry).key], key
    assert len(bucket.asked) == COUNT and not any(one.startswith(MANIFEST) for one in bucket.asked)


@pytest.mark.parametrize("kind", ["elsewhere", "without metadata", "forbidden"])
def test_few_are_tried_where_entries_are_not_with_their_messages(bucket: Bucket, kind: str) -> None:
    for number in range(COUNT):
        bucket.commit(number, b"message", timedelta(days=30) if kind == "elsewhere" else timedelta(0))
    if kind == "without metadata":
        bucket.metadata.clear()
    if kind == "forbidden":
        bucket.status = 403
    assert all(message is None for _, message in read(bucket).values())
    tried = len(bucket.asked) - COUNT
    # Those that were under way when it became known are no more than the threads.
    assert 0 < tried <= s3._TRIES + s3._NEAR


def test_of_a_large_message_the_entry_alone_is_taken(bucket: Bucket) -> None:
    key = bucket.commit(0, bytes(MOST + 1))
    fits = bucket.commit(1, bytes(MOST))
    found = read(bucket)
    assert found[key][1] is None and found[fits][1] == bytes(MOST)
    assert len(bucket.asked) == 2


def test_messages_in_memory_have_a_limit_together(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_MESSAGES_OCTETS", 10 * MOST)
    for number in range(COUNT):
        bucket.commit(number, bytes(MOST))
    assert sum(message is not None for _, message in read(bucket).values()) == 10
    assert len(bucket.asked) == COUNT
