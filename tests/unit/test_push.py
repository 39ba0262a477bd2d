"""Where images go, who logs in, and the conversation with registries that behave as the specification lets them."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from twinmail.oci import docker_credentials, upload
from twinmail.oci.destination import Destination, DestinationError
from twinmail.oci.docker_credentials import Credentials, CredentialsError
from twinmail.oci.registry import Registry
from twinmail.oci.registry_error import RegistryError, RegistryUnavailable
from twinmail.oci.registry_login import Challenge
from twinmail.oci.upload import Upload
from twinmail.oci.upload_sessions import UploadSessions, open_sessions

PIECE = 1000
CONTENT = bytes(range(256)) * 14  # three pieces and a rest
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.mark.parametrize(
    ("text", "api", "reference"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000", "127.0.0.1:5000/dovecot@D"),
        ("localhost/a", "http://localhost", "localhost/a/dovecot@D"),
        ("[::1]:5000/a/b/", "http://[::1]:5000", "[::1]:5000/a/b/dovecot@D"),
        ("https://127.0.0.1:5000/a", "https://127.0.0.1:5000", "127.0.0.1:5000/a/dovecot@D"),
        ("registry.example.org/ann", "https://registry.example.org", "registry.example.org/ann/dovecot@D"),
        ("docker.io/ann", "https://registry-1.docker.io", "docker.io/ann/dovecot@D"),
    ],
)
def test_destination(text: str, api: str, reference: str) -> None:
    found = Destination.parse(text)
    assert (found.api, found.reference("dovecot", "D")) == (api, reference)


@pytest.mark.parametrize(
    "text",
    ["", "/a", "a b", "ftp://a", "host/Upper", "host/a:tag", f"host/a@{DIGEST}", "user:pw@host/a", "-x"],
)
def test_text_that_is_no_registry(text: str) -> None:
    with pytest.raises(DestinationError, match="is no registry: expected HOST"):
        Destination.parse(text)


def test_http_only_on_this_machine() -> None:
    with pytest.raises(DestinationError, match="http would show passwords to everybody on the way"):
        Destination.parse("http://registry.example.org/a")


def config(folder: Path, document: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(document))
    return path


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_credentials_by_every_name_of_a_registry(tmp_path: Path) -> None:
    for key, host in (
        ("r.example.org:5000", "r.example.org:5000"),
        ("https://r.example.org", "r.example.org"),
        ("https://index.docker.io/v1/", "docker.io"),
    ):
        file = config(tmp_path, {"auths": {key: {"auth": encoded("ann:a:b")}}})
        assert docker_credentials.load(file, host) == Credentials("ann", "a:b")
        assert docker_credentials.load(file, "other.example.org") is None
    assert docker_credentials.load(tmp_path / "none", "r.example.org") is None


def test_credentials_are_never_printed() -> None:
    text = repr(Credentials("ann", "hush", "token"))
    assert "hush" not in text and "token=" not in text.replace("identity_token", "")


def test_identity_token(tmp_path: Path) -> None:
    file = config(tmp_path, {"auths": {"r": {"auth": encoded("ann:"), "identitytoken": "t"}}})
    assert docker_credentials.load(file, "r") == Credentials(identity_token="t")


def test_credential_helper_is_asked_over_its_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-tests"
    helper.write_text(
        "#!/bin/sh\n[ $# = 1 ] && [ $1 = get ] && read -r host\n"
        'printf \'{"ServerURL":"%s","Username":"ann","Secret":"hush"}\' "$host"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for document in (
        {"credHelpers": {"r": "tests"}},
        {"credsStore": "tests", "auths": {"r": {}}},
    ):
        assert docker_credentials.load(config(tmp_path, document), "r") == Credentials("ann", "hush")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"auth": "?"}, "expected USER:PASSWORD in Base64; log in anew: docker login r"),
        ({"auth": encoded("nocolon")}, "expected USER:PASSWORD in Base64"),
        ("text", "expected an object"),
    ],
)
def test_damaged_entry(tmp_path: Path, entry: object, text: str) -> None:
    with pytest.raises(CredentialsError, match=re.escape(text)):
        docker_credentials.load(config(tmp_path, {"auths": {"r": entry}}), "r")


def test_missing_helper_is_said(tmp_path: Path) -> None:
    file = config(tmp_path, {"credHelpers": {"r": "missing-here"}})
    with pytest.raises(CredentialsError, match="docker-credential-missing-here failed"):
        docker_credentials.load(file, "r")


def test_challenge() -> None:
    found = Challenge.parse('Bearer realm="https://a/t?x=1",service="s, t",scope="repository:a:pull,push"')
    assert found.scheme == "bearer"
    assert found.parameters == {
        "realm": "https://a/t?x=1",
        "service": "s, t",
        "scope": "repository:a:pull,push",
    }
    assert Challenge.parse("Basic realm=x") == Challenge("basic", {"realm": "x"})


@dataclass
class Store:
    """What a registry of the specification holds, and how it behaves.

    Attributes:
        cuts: after how many octets of a piece the connection ends, one by one.
        whole_only: it refuses pieces.
        least: octets that a piece must have.
        forgets: whether an upload is lost with its connection.
        busy: how many requests are answered with 503 first.
    """

    received: bytearray = field(default_factory=bytearray)
    blobs: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    whole_only: bool = False
    least: int = 0
    forgets: bool = False
    busy: int = 0
    asked: list[str] = field(default_factory=list)
    live: bool = False


class Server(ThreadingHTTPServer):
    daemon_threads = True
    store: Store


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _do(self) -> None:
        store = self.server.store
        store.asked.append(self.command)
        length = int(self.headers.get("Content-Length", 0))
        if store.busy:
            store.busy -= 1
            self.rfile.read(length)
            self._send(503)
        elif self.command == "HEAD":
            self._send(200 if self.path.rpartition("/")[2] in store.blobs else 404)
        elif self.command == "POST":
            store.received.clear()
            store.live = True
            more = {"OCI-Chunk-Min-Length": str(store.least)} if store.least else {}
            self._send(202, Location="/v2/a/blobs/uploads/1", **more)
        elif not store.live:
            self.rfile.read(length)
            self._send(404)
        elif self.command == "GET":
            self._progress(204)
        elif self.command == "PATCH":
            self._patch(length)
        else:
            store.received += self.rfile.read(length)
            digest = self.path.rpartition("digest=")[2]
            if f"sha256:{hashlib.sha256(store.received).hexdigest()}" == digest:
                store.blobs[digest] = bytes(store.received)
                self._send(201, Location="/v2/a/blobs/x")
            else:
                store.live = False
                self._send(400)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _do

    def _patch(self, length: int) -> None:
        store = self.server.store
        if store.whole_only:
            self.rfile.read(length)
            self._send(405)
            return
        first = int(self.headers["Content-Range"].partition("-")[0])
        if store.cuts:
            store.received += self.rfile.read(min(length, store.cuts.pop(0)))
            store.live = not store.forgets
            self.close_connection = True
            self.connection.close()
        elif first != len(store.received):
            self.rfile.read(length)
            self._progress(416)
        else:
            store.received += self.rfile.read(length)
            self._progress(202)

    def _progress(self, status: int) -> None:
        last = max(0, len(self.server.store.received) - 1)
        self._send(status, Location="/v2/a/blobs/uploads/1", Range=f"0-{last}")

    def _send(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(upload, "PIECE", PIECE)
    with Server(("127.0.0.1", 0), Handler) as found:
        found.store = Store()
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def make(server: Server, folder: Path, sessions: UploadSessions, told: list[int]) -> Upload:
    file = folder / "blob"
    file.write_bytes(CONTENT)
    registry = Registry(Destination.parse(f"127.0.0.1:{server.server_port}"), sleep=lambda seconds: None)
    return Upload(registry, "a", DIGEST, file, sessions, told.append, lambda: None)


def run(server: Server, folder: Path) -> int:
    told: list[int] = []
    with open_sessions(folder / "state") as sessions:
        one = make(server, folder, sessions, told)
        kept = one.run()
        assert sessions.get(one.key) is None
    assert server.store.blobs == {DIGEST: CONTENT}
    assert sum(told) == len(CONTENT)
    return kept


def test_blob_goes_in_pieces(server: Server, tmp_path: Path) -> None:
    assert run(server, tmp_path) == 0
    assert server.store.asked.count("PATCH") == 4


def test_small_blob_goes_at_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE", len(CONTENT))
    run(server, tmp_path)
    assert server.store.asked == ["POST", "PUT"]


@pytest.mark.parametrize("octets", [0, 2, 700, 1000])
def test_cut_piece_goes_on_from_what_arrived(server: Server, tmp_path: Path, octets: int) -> None:
    server.store.cuts = [octets]
    run(server, tmp_path)
    assert server.store.asked.count("POST") == 1


def test_single_octet_is_taken_for_none_and_sent_anew(server: Server, tmp_path: Path) -> None:
    """``0-0`` may mean one octet or none; what refuses to go on from there begins anew."""
    server.store.cuts = [1]
    run(server, tmp_path)
    assert server.store.asked.count("POST") == 2


def test_line_that_lets_nothing_through_ends(server: Server, tmp_path: Path) -> None:
    server.store.cuts = [0] * 99
    with pytest.raises(RegistryUnavailable, match="3 times while it was sent"):
        run(server, tmp_path)


def test_lost_upload_begins_anew(server: Server, tmp_path: Path) -> None:
    server.store.cuts, server.store.forgets = [700], True
    run(server, tmp_path)
    assert server.store.asked.count("POST") == 2


def test_upload_that_is_lost_every_time_ends(server: Server, tmp_path: Path) -> None:
    server.store.cuts, server.store.forgets = [700] * 9, True
    with pytest.raises(RegistryUnavailable, match=r"it lost a@sha256:\w+ 3 times while it was sent"):
        run(server, tmp_path)


def test_registry_for_whole_blobs_only(server: Server, tmp_path: Path) -> None:
    server.store.whole_only = True
    run(server, tmp_path)
    assert server.store.asked == ["POST", "PATCH", "POST", "PUT"]


def test_least_octets_of_a_piece(server: Server, tmp_path: Path) -> None:
    server.store.least = 2000
    run(server, tmp_path)
    assert server.store.asked.count("PATCH") == 2


def test_busy_registry_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.store.busy = 3
    run(server, tmp_path)


def test_upload_of_an_earlier_process_goes_on(server: Server, tmp_path: Path) -> None:
    """A killed process left the location and a piece and a half."""
    server.store.received, server.store.live = bytearray(CONTENT[:1500]), True
    with open_sessions(tmp_path / "state") as sessions:
        one = make(server, tmp_path, sessions, [])
        sessions.put(one.key, f"http://127.0.0.1:{server.server_port}/v2/a/blobs/uploads/1")
    assert run(server, tmp_path) == 1500
    assert server.store.asked[:2] == ["GET", "PATCH"] and "POST" not in server.store.asked


def test_damaged_earlier_octets_are_sent_anew(server: Server, tmp_path: Path) -> None:
    server.store.received, server.store.live = bytearray(1500), True
    with open_sessions(tmp_path / "state") as sessions:
        one = make(server, tmp_path, sessions, [])
        sessions.put(one.key, f"http://127.0.0.1:{server.server_port}/v2/a/blobs/uploads/1")
    assert run(server, tmp_path) == 0


def test_sessions_are_read_by_nobody_else(tmp_path: Path) -> None:
    with open_sessions(tmp_path / "state") as sessions:
        sessions.put("k", "http://x/secret")
    assert (tmp_path / "state" / "uploads.json").stat().st_mode & 0o077 == 0
    (tmp_path / "state" / "uploads.json").write_text("{")
    with open_sessions(tmp_path / "state") as sessions:
        assert sessions.get("k") is None


def test_registry_that_is_down(tmp_path: Path) -> None:
    registry = Registry(Destination.parse("127.0.0.1:1"), sleep=lambda seconds: None)
    with pytest.raises(RegistryUnavailable, match="refused; run the same command again"):
        registry.has_blob("a", DIGEST)


def test_password_goes_to_no_token_server_without_tls(tmp_path: Path) -> None:
    from twinmail.oci.registry_login import Login

    login = Login(None, "r", Credentials("ann", "hush"), loopback=False)  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="no password is sent there without TLS"):
        login.answer(Challenge("bearer", {"realm": "http://tokens.example.org"}), ["s"])
