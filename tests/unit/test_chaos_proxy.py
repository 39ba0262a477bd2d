"""The proxy of chaos runs: what the service did and what the client saw, for every effect."""

import functools
import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from tests.localstack_process import free_port
from twinmail.chaos.proxy import Cut, Proxy
from twinmail.chaos.proxy_request import Request
from twinmail.chaos.proxy_rule import Effect, Rule
from twinmail.errors import PermanentError

PORT = free_port()
"""Of every proxy, so that one client of each service does for all tests: making one takes half a second."""

BODY = b"0123456789" * 20


class Service(ThreadingHTTPServer):
    """Stores what is PUT, and remembers every head it saw."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.stored: dict[str, bytes] = {}
        self.heads: list[dict[str, str]] = []
        self.connections: set[Any] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what is tested."""


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"
    # One write for header and body: two would wait for a delayed acknowledgement.
    wbufsize = -1

    def _serve(self) -> None:
        self.server.heads.append(dict(self.headers))
        self.server.connections.add(self.client_address)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "PUT":
            self.server.stored[self.path] = body
        form = "form" in self.headers.get("Content-Type", "")
        posted = b"<R><ListTopicsResult/></R>" if form else b"{}"
        answer = {"PUT": b"", "POST": posted}.get(self.command, BODY)
        self.send_response(200)
        if self.path == "/bucket/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            answer = b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer)
        else:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else answer)

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()
        return True

    do_GET = do_PUT = do_POST = do_HEAD = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    running = Proxy(service.server_address[1], seed=1, port=PORT).start()
    yield running
    running.stop()
    running.stop()


@functools.cache
def clients(service: str) -> Any:
    """A client of production that tries once."""
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{PORT}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="eu-central-1",
        config=BotoConfig(retries={"total_max_attempts": 1}, read_timeout=1),
    )


def code(call: Any) -> tuple[int, str]:
    """How *call* is refused."""
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response
    return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"]


def put(body: bytes = b"body") -> Any:
    return clients("s3").put_object(Bucket="bucket", Key="key", Body=body)


def test_requests_pass_unchanged_over_one_connection(proxy: Proxy, service: Service) -> None:
    direct = http.client.HTTPConnection("127.0.0.1", proxy.port)
    for path in ("/bucket/key", "/bucket/chunked", "/bucket/key"):
        direct.request("GET", path, headers={"X-Odd": "a:b, c"})
        assert direct.getresponse().read() == BODY
    direct.request("PUT", "/bucket/a", body=iter([b"ab", b"c" * 100_000]), encode_chunked=True)
    assert direct.getresponse().read() == b""
    direct.close()
    assert service.stored == {"/bucket/a": b"ab" + b"c" * 100_000}
    assert {(one["Host"], one.get("X-Odd")) for one in service.heads[:3]} == {
        (f"127.0.0.1:{proxy.port}", "a:b, c")
    }
    assert len(service.connections) == 1
    # With Expect: 100-continue, and a body that is longer than any buffer.
    put(bytes(3_000_000))
    assert service.stored["/bucket/key"] == bytes(3_000_000)
    assert not proxy.counts


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (Effect.ERROR, [(500, "InternalError"), (500, "InternalServerError"), (500, "InternalFailure")]),
        (Effect.UNAVAILABLE, [(503, "SlowDown"), (503, "ServiceUnavailable"), (503, "ServiceUnavailable")]),
        (Effect.THROTTLED, [(503, "SlowDown"), (400, "ThrottlingException"), (403, "RequestThrottled")]),
    ],
)
def test_errors_have_the_shape_of_their_service(
    proxy: Proxy, service: Service, effect: Effect, expected: list[tuple[int, str]]
) -> None:
    proxy.add(Rule("trouble", effect))
    calls = (
        lambda: put(bytes(200_000)),
        lambda: clients("dynamodb").list_tables(),
        lambda: clients("sqs").list_queues(),
    )
    assert [code(call) for call in calls] == expected
    sns = {Effect.ERROR: "InternalError", Effect.UNAVAILABLE: "ServiceUnavailable"}.get(effect, "Throttled")
    assert code(lambda: clients("sns").list_topics())[1] == sns
    assert code(lambda: clients("s3").head_object(Bucket="bucket", Key="key"))[0] in (500, 503)
    assert proxy.counts == {"trouble": 5} and not service.heads


def test_reset_before_the_service_saw_it(proxy: Proxy, service: Service) -> None:
    proxy.add(Rule("s3-reset", Effect.RESET))
    with pytest.raises(BotoCoreError):
        put()
    assert not service.stored
    proxy.remove("s3-reset")
    put()
    assert service.stored and proxy.counts == {"s3-reset": 1}


@pytest.mark.parametrize("effect", [Effect.LOST, Effect.ERROR_AFTER])
def test_the_write_happened_and_its_answer_is_lost(proxy: Proxy, service: Service, effect: Effect) -> None:
    proxy.add(Rule("s3-lost", effect))
    with pytest.raises((BotoCoreError, ClientError)):
        put()
    assert service.stored == {"/bucket/key": b"body"}


@pytest.mark.parametrize("path", ["/bucket/key", "/bucket/chunked"])
def test_truncated_body(proxy: Proxy, path: str) -> None:
    proxy.add(Rule("s3-truncated", Effect.TRUNCATED, count=1))
    direct = http.client.HTTPConnection("127.0.0.1", proxy.port)
    direct.request("GET", path)
    answer = direct.getresponse()
    assert answer.status == 200
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        answer.read()
    assert proxy.counts == {"s3-truncated": 1}
    direct.close()
    direct.request("GET", path)
    assert direct.getresponse().read() == BODY


def test_slow(proxy: Proxy, service: Service) -> None:
    proxy.add(Rule("s3-slow", Effect.SLOW, seconds=0.3))
    began = time.monotonic()
    put()
    assert time.monotonic() - began >= 0.3 and service.stored


@pytest.mark.parametrize("how", Cut)
def test_cut_network_and_its_mending(proxy: Proxy, service: Service, how: Cut) -> None:
    direct = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=0.2)
    direct.request("GET", "/bucket/key")
    direct.getresponse().read()
    proxy.cut(how)
    for _ in range(2):
        with pytest.raises((OSError, http.client.HTTPException)):
            direct.request("GET", "/bucket/key")
            direct.getresponse()
        direct.close()
    proxy.mend()
    proxy.mend()
    put()
    assert len(service.heads) == 2


def test_a_client_sees_that_the_service_is_gone() -> None:
    nobody = Proxy(1, port=PORT).start()
    with pytest.raises(BotoCoreError):
        put(nobody)
    nobody.stop()


def test_rules_pick_by_service_and_operation(proxy: Proxy, service: Service) -> None:
    proxy.add(Rule("reads", Effect.ERROR, "s3", "Get*"))
    put()
    clients("dynamodb").list_tables()
    assert code(lambda: clients("s3").get_object(Bucket="bucket", Key="key"))[0] == 500
    proxy.add(Rule("notices", Effect.ERROR, "sns", "Publish"))
    clients("sns").list_topics()
    assert code(lambda: clients("sns").publish(TopicArn="topic", Message="m"))[0] == 500


def test_the_same_seed_picks_the_same_requests(service: Service) -> None:
    def picked(seed: int) -> list[int]:
        proxy = Proxy(service.server_address[1], seed).start()
        proxy.add(Rule("some", Effect.ERROR, probability=0.3, count=8))
        direct = http.client.HTTPConnection("127.0.0.1", proxy.port)
        answers = []
        for _ in range(40):
            direct.request("GET", "/bucket/key")
            answer = direct.getresponse()
            answer.read()
            answers.append(answer.status)
        direct.close()
        proxy.stop()
        return answers

    assert picked(7) == picked(7) != picked(8)
    assert picked(7).count(500) == 8
    # A rule that is in force for one request has an effect.
    assert picked(7)[0] == picked(8)[0] == 500


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ("GET /b/k", "GetObject"),
        ("HEAD /b/k/l", "HeadObject"),
        ("PUT /b/k?tagging", "PutObjectTagging"),
        ("PUT /b/k?partNumber=1&uploadId=x", "UploadPart"),
        ("POST /b/k?uploads", "CreateMultipartUpload"),
        ("POST /b/k?uploadId=x", "CompleteMultipartUpload"),
        ("POST /b?delete", "DeleteObjects"),
        ("GET /b?list-type=2&prefix=manifest%2F", "ListObjectsV2"),
        ("GET /b/?versions", "ListObjectVersions"),
        ("PUT /b", "CreateBucket"),
        ("GET /", "ListBuckets"),
    ],
)
def test_operation_of_s3(line: str, operation: str) -> None:
    scope = "AWS4-HMAC-SHA256 Credential=AKIA/20261123/eu-central-1/s3/aws4_request, SignedHeaders=host"
    request = Request.parse(f"{line} HTTP/1.1\r\nAuthorization: {scope}\r\n\r\n".encode())
    assert (request.service, request.operation()) == ("s3", operation)


def test_a_rule_of_no_probability_is_refused() -> None:
    with pytest.raises(PermanentError, match=r"some: probability: expected 0 to 1, got 30"):
        Rule("some", Effect.ERROR, probability=30)
