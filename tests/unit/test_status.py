"""The status of the system: every part by what it says, and whatever part is down."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config as Calls
from moto import mock_aws
from rich.console import Console

from tests.cloud import CONFIG
from tests.sending_events import bounce, complaint, sns
from twinmail.feedback import feedback
from twinmail.layout import manifest_key
from twinmail.sending_event import read
from twinmail.server_page import LocalPage
from twinmail.status import Slow, Status, collect, troubles
from twinmail.tasks.status import screen

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WELL: dict[str, Any] = {
    "ready": True,
    "outages": {"s3": None, "sqs": None, "disk": None},
    "delivered": 7,
    "backlog": 0,
    "retrying": {},
    "parked": {},
    "chores": {"accounts": {"turns": 1, "error": None}},
    "suspicion": None,
    "last": {"ses_id": "abc", "manifest_age_ms": 412},
}


@contextmanager
def server(said: Any) -> Iterator[str]:
    """A health page that says *said*; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(200 if self.path == "/status" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    page = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{page.server_address[1]}"
    finally:
        page.shutdown()
        page.server_close()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        sqs, s3 = (boto3.client(one, region_name=CONFIG.region) for one in ("sqs", "s3"))
        for name in (*(CONFIG.queue(one) for one in CONFIG.servers), CONFIG.dead_letter_queue):
            sqs.create_queue(QueueName=name)
        place = {"LocationConstraint": CONFIG.region}
        s3.create_bucket(Bucket=CONFIG.bucket, CreateBucketConfiguration=place)
        yield sqs, s3


def ask(aws: tuple[Any, Any], primary: Any = WELL, backup: Any = WELL) -> Status:
    with server(primary) as one, server(backup) as other:
        return collect(
            CONFIG, "http://aws", {"primary": LocalPage(one), "backup": LocalPage(other)}, *aws, NOW
        )


def put(s3: Any, document: dict[str, Any], days: int = 0) -> None:
    event = read(sns(document))
    assert event is not None
    found = feedback(event, ("ann",))
    day = f"{NOW - timedelta(days=days):%Y/%m/%d}"
    key = f"state/feedback/{day}/{found.id}.json"
    s3.put_object(Bucket=CONFIG.bucket, Key=key, Body=found.to_bytes())


def sent(s3: Any, count: int, days: int = 0) -> None:
    day = f"{NOW - timedelta(days=days):%Y/%m/%d}"
    for number in range(count):
        s3.put_object(Bucket=CONFIG.bucket, Key=f"state/sent/{day}/m{number}.json", Body=b"{}")


def test_all_is_well(aws: tuple[Any, Any]) -> None:
    found = ask(aws)
    assert found.problems == ()
    assert [(one.name, one.said["delivered"]) for one in found.servers] == [("primary", 7), ("backup", 7)]
    assert [(one.waiting, one.in_hand) for one in (*found.queues, found.dead_letters)] == [(0, 0)] * 3


@pytest.mark.parametrize("answer", [b"nonsense", b"[]", b"\xff"])
def test_server_that_does_not_answer_is_the_only_problem(aws: tuple[Any, Any], answer: bytes) -> None:
    found = ask(aws, backup=answer)
    (problem,) = found.problems
    assert problem.startswith("backup: its syncer does not answer at 127.0.0.1:")
    assert found.servers[0].problems == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ready": False}, "has not looked at the log yet"),
        ({"outages": {"s3": {"error": "refused"}}}, "s3 is out: {'error': 'refused'}"),
        ({"retrying": {"m": "size"}}, "1 messages are tried again: ('m', 'size')"),
        ({"parked": {"m": "damaged", "n": "damaged"}}, "2 messages are put aside"),
        ({"broken_scripts": {"ann": "line 1"}}, "1 filters do not work"),
        ({"full": {"ann": {"waiting": 2}}}, "mailbox ann is full"),
        ({"chores": {"accounts": {"turns": 1, "error": "no S3"}}}, "accounts fails: no S3"),
        ({"suspicion": "the log is empty"}, "the log is empty"),
        ({"ledger": "disk full"}, "disk full"),
    ],
)
def test_what_a_server_says_of_itself(change: dict[str, Any], words: str) -> None:
    (problem,) = troubles({**WELL, **change})
    assert words in problem


def test_status_of_another_version_is_no_trouble() -> None:
    assert troubles({"ready": True, "new": {"field": 1}}) == []


def test_dead_letters_are_a_problem_and_waiting_mail_is_not(aws: tuple[Any, Any]) -> None:
    sqs, _ = aws
    for name in (CONFIG.queue("primary"), CONFIG.dead_letter_queue):
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="x")
    found = ask(aws)
    assert found.queues[0].waiting == 1
    (problem,) = found.problems
    assert problem.startswith("1 events ended in tests-dead-letters")


def test_bounces_and_complaints_of_thirty_days_are_counted(aws: tuple[Any, Any]) -> None:
    _, s3 = aws
    sent(s3, 3)
    sent(s3, 1, days=30)
    sent(s3, 5, days=31)
    put(s3, bounce())
    put(s3, bounce("Transient"), days=1)
    put(s3, complaint(), days=2)
    put(s3, bounce(feedback_id="old"), days=40)
    found = ask(aws).sending
    assert (found.sent, found.bounces, found.soft_bounces, found.complaints) == (4, 1, 1, 1)
    assert found.bounce_rate == 0.25
    assert {one["kind"] for one in found.latest} == {"bounce", "complaint"}
    assert found.latest[0]["to"] == ["far@example.com"] and found.latest[0]["from"] == "ann@example.org"


def test_rates_are_a_problem_once_they_say_something(aws: tuple[Any, Any]) -> None:
    _, s3 = aws
    sent(s3, 99)
    for number in range(6):
        put(s3, bounce(feedback_id=f"f{number}"))
    put(s3, complaint())
    assert ask(aws).problems == ()
    s3.put_object(Bucket=CONFIG.bucket, Key=f"state/sent/{NOW:%Y/%m/%d}/more.json", Body=b"{}")
    assert ask(aws).problems == (
        "bounce rate 6.0%: SES reviews accounts above 5.0%",
        "complaint rate 1.0%: SES reviews accounts above 0.1%",
    )


def test_cloud_that_is_away_leaves_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    calls = Calls(connect_timeout=1, retries={"total_max_attempts": 1})
    nowhere: dict[str, Any] = {
        "region_name": CONFIG.region,
        "endpoint_url": "http://127.0.0.1:1",
        "config": calls,
    }
    found = ask((boto3.client("sqs", **nowhere), boto3.client("s3", **nowhere)))
    assert [one.problems for one in found.servers] == [(), ()]
    assert len(found.problems) == 4 and all("Could not connect" in one for one in found.problems)


def test_damaged_record_is_a_problem_of_sent_mail_alone(aws: tuple[Any, Any]) -> None:
    _, s3 = aws
    key = f"state/feedback/{NOW:%Y/%m/%d}/bounce-permanent-x.json"
    s3.put_object(Bucket=CONFIG.bucket, Key=key, Body=b"{}")
    (problem,) = ask(aws).problems
    assert problem.startswith("sent mail: record of feedback")


def test_low_disk_is_trouble() -> None:
    assert troubles({**WELL, "disk": {"free": 20 * 10**9, "total": 10**11}}) == []
    (problem,) = troubles({**WELL, "disk": {"free": 9 * 10**9, "total": 10**11}})
    assert problem == "its disk has 9.0 of 100.0 GB left; make room"


def slowly(aws: tuple[Any, Any], slow: Slow) -> Status:
    return collect(CONFIG, "http://aws", {}, *aws, NOW, slow)


def test_storage_and_cost_are_shown_and_over_the_budget_is_a_problem(aws: tuple[Any, Any]) -> None:
    found = slowly(aws, Slow(bucket=lambda: 5, month=lambda: 9.9))
    assert (found.bucket_octets, found.month_usd, found.budget_usd, found.problems) == (5, 9.9, 10, ())
    (problem,) = slowly(aws, Slow(month=lambda: 10.01)).problems
    assert problem == "a month costs 10.01 dollars, the budget is 10.00; see ./inv cost --actual"


def test_certificate_is_a_problem_below_fourteen_days_or_unseen(aws: tuple[Any, Any]) -> None:
    def refused() -> datetime:
        raise ConnectionRefusedError("refused")

    ends = {"far": 15.0, "near": 13.0}
    asks: dict[str, Any] = {name: lambda days=days: NOW + timedelta(days=days) for name, days in ends.items()}
    found = slowly(aws, Slow(certificates={**asks, "gone": refused}))
    assert [one.days for one in found.certificates] == [15.0, 13.0, None]
    assert found.problems == ("near: its certificate ends in 13 days", "gone: certificate: refused")


def test_what_cannot_be_asked_slowly_leaves_the_rest(aws: tuple[Any, Any]) -> None:
    def away() -> int:
        raise OSError("away")

    found = slowly(aws, Slow(bucket=away, month=away))
    assert (found.bucket_octets, found.month_usd, found.problems) == (None, None, ())


def test_one_screen_shows_everything(aws: tuple[Any, Any]) -> None:
    sqs, s3 = aws
    sent(s3, 3)
    url = sqs.get_queue_url(QueueName=CONFIG.queue("backup"))["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    last = {"ses_id": "a", "mailbox": "ann", "at": "2026-11-23T11:58:01.000+00:00", "manifest_age_ms": 412}
    seen, unseen = (manifest_key(one, NOW - timedelta(minutes=9)) for one in "ab")
    for key in (seen, unseen):
        s3.put_object(Bucket=CONFIG.bucket, Key=key, Body=b"")
    said = {**WELL, "last": last, "cursor": seen, "disk": {"free": 20 * 10**9, "total": 40 * 10**9}}
    slow = Slow(
        bucket=lambda: 5 * 10**9,
        month=lambda: 6.78,
        certificates={name: lambda: NOW + timedelta(days=60) for name in CONFIG.servers},
    )
    with server(said) as one, server({**WELL, "last": None, "cursor": unseen}) as other:
        pages = {"primary": LocalPage(one), "backup": LocalPage(other)}
        found = collect(CONFIG, "http://aws", pages, *aws, NOW, slow)
    console = Console(width=110, highlight=False, record=True, file=io.StringIO())
    console.print(screen(found))
    text = console.export_text()
    lines = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    for words in ("well", "7", "2026-11-23 11:58 UTC", "9 min", "20.0 of 40.0 GB free", "60 days"):
        assert words in lines["primary"], text
    assert "none since start" in lines["backup"] and "0 s" in lines["backup"]
    assert [lines[f"tests-{name}"].split("│")[2].strip() for name in ("backup", "dead-letters")] == ["1", "0"]
    assert "sent in 30 days: 3" in text and "stored in the bucket: 5.00 GB" in text
    assert "a month: 6.78 of 10.00 dollars" in text and "✓ all is well" in text
    assert len(text.splitlines()) <= 24
