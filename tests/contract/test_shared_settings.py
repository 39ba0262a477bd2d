"""Two servers on one bucket in LocalStack: what conditional writes are needed for."""

import io
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.localstack_process import REGION, LocalStackProcess
from tests.log_simulator import LogSimulator, entry_of
from twinmail.config import Config
from twinmail.filter.decision import VACATION, Decision, Outgoing, Placement
from twinmail.outgoing import SETTINGS, Refused, SesSending
from twinmail.sieve_folder import SieveFolder
from twinmail.sync.answers import Answers, NotAnswered
from twinmail.sync.aws import Aws
from twinmail.sync.log import Log
from twinmail.sync.settings import SettingsTrouble, SharedSettings
from twinmail.sync.state_store import S3StateStore

ROUNDS = 10
CONFIG = Config.parse(
    'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
    '[mailboxes.ann]\naddresses = ["ann@example.org"]\n'
    '[servers.primary]\nplatform = "linux/amd64"\nhost = "a.example.org"\n'
    '[servers.backup]\nplatform = "linux/amd64"\nhost = "b.example.org"\n'
)
WRITTEN = (
    b"From: <ann@example.org>\r\nTo: <bob@example.com>\r\nSubject: Auto: x\r\n"
    b"Auto-Submitted: auto-replied (vacation)\r\n\r\nAway.\r\n"
)


@pytest.fixture
def aws(localstack: LocalStackProcess, monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setenv("AWS_ENDPOINT_URL", localstack.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return Aws(REGION)


@pytest.fixture
def bucket(localstack: LocalStackProcess) -> str:
    return localstack.versioned_bucket(f"settings-{uuid.uuid4().hex[:12]}")


def at_once(*acts: threading.Thread) -> None:
    for act in acts:
        act.start()
    for act in acts:
        act.join()


def test_servers_that_write_at_once_keep_all_scripts(bucket: str, aws: Aws, tmp_path: Path) -> None:
    servers = {}
    for name in ("primary", "backup"):
        mail, state = tmp_path / name / "mail", tmp_path / name / "state"
        mail.mkdir(parents=True)
        state.mkdir()
        store, log = S3StateStore(bucket, aws), Log(io.StringIO())
        servers[name] = (mail, SharedSettings(name, ["ann"], mail, state, store, log))
    expected: dict[str, str] = {}
    for number in range(ROUNDS):
        barrier = threading.Barrier(len(servers))

        def edit(name: str, barrier: threading.Barrier = barrier, number: int = number) -> None:
            mail, shared = servers[name]
            SieveFolder(mail / "ann").write(f"{name}{number}", f"# {number}\r\nkeep;")
            barrier.wait()
            try:
                shared.look()
            except SettingsTrouble:
                # Somebody else was faster too often; the next look goes on.
                shared.look()

        at_once(*(threading.Thread(target=edit, args=(name,)) for name in servers))
        expected |= {f"{name}{number}": f"# {number}\r\nkeep;" for name in servers}
    for _ in range(2):
        for _, shared in servers.values():
            shared.pull()
    for mail, shared in servers.values():
        assert shared.of("ann").live == expected
        assert {name: one[0] for name, one in SieveFolder(mail / "ann").read().scripts.items()} == expected


def test_unchanged_document_is_known_by_its_version(bucket: str, aws: Aws, tmp_path: Path) -> None:
    store = S3StateStore(bucket, aws)
    shared = SharedSettings("primary", ["ann"], tmp_path, tmp_path, store, Log(io.StringIO()))
    shared.remember("ann", "spam@example.com", "junk")
    shared.look()
    (first,) = store.versions("state/mailboxes/")
    shared.pull()
    shared.look()
    assert list(store.versions("state/mailboxes/")) == [first]


def test_of_two_servers_one_answers(localstack: LocalStackProcess, bucket: str, aws: Aws) -> None:
    localstack.client("ses").verify_domain_identity(Domain="example.org")
    log, objects = Log(io.StringIO()), LogSimulator()
    sent: list[str] = []

    class Counting(SesSending):
        def send(self, source: str, destinations: object, data: bytes) -> str:
            sent.append(super().send(source, ["bob@example.com"], data))
            return sent[-1]

    servers = [
        Answers(CONFIG, S3StateStore(bucket, aws), objects, Counting(aws.client("ses", SETTINGS)), name, log)
        for name in ("primary", "backup")
    ]
    now = datetime.now(UTC)
    for number in range(ROUNDS):
        entry = entry_of(f"m{number}", b"From: <bob@example.com>\r\n\r\nx", now)
        objects.put(entry.key, b"From: <bob@example.com>\r\n\r\nx")
        outgoing = Outgoing(VACATION, "", ("bob@example.com",), WRITTEN, f"{number:032x}", None)
        decision = Decision("ann", entry.ses_id, (Placement("INBOX"),), (outgoing,), now, "primary", "script")
        barrier = threading.Barrier(2)

        def answer(server: Answers, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                server.turn()
            except NotAnswered as error:
                raise AssertionError(str(error)) from error

        for server in servers:
            server.hand(entry, decision)
        at_once(*(threading.Thread(target=answer, args=(server,)) for server in servers))
    assert len(sent) == len(set(sent)) == ROUNDS


def test_foreign_sender_is_refused_by_ses(localstack: LocalStackProcess, aws: Aws) -> None:
    with pytest.raises(Refused, match=r"x@unverified\.example"):
        SesSending(aws.client("ses", SETTINGS)).send("x@unverified.example", ["bob@example.com"], WRITTEN)
