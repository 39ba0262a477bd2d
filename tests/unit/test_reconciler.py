"""The reconciler against moto, and the parts of it that have no effects."""

import base64
import bisect
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.cloud import CONFIG
from tests.moto_store import moto_store
from tests.reconciler_contract import ReconcilerContract, Witnessed, fields_of_ses
from twinmail import metric
from twinmail.cost.prices import Prices
from twinmail.index import Index
from twinmail.processor import Processor
from twinmail.reconciler import envelope, slices, turn

TEMPLATE = Path(__file__).parents[2] / "lambda" / "stack.yaml"
NOW = datetime(2026, 11, 23, 14, 7, tzinfo=UTC)
EVENT = {
    "source": "aws.events",
    "detail-type": "Scheduled Event",
    "time": "2026-11-23T14:00:00Z",
    "detail": {},
}


@pytest.fixture
def witnessed() -> Iterator[Witnessed]:
    with moto_store() as store:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        sqs = boto3.client("sqs", region_name=CONFIG.region, **keys)
        sqs.create_queue(QueueName=CONFIG.arrivals_queue)
        yield Witnessed(store, sqs, CONFIG.arrivals_queue)


class TestReconciler(ReconcilerContract):
    """The contract, with moto behind it."""


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", fullmatch=True))
def test_every_id_is_in_one_slice_of_the_day(ses_id: str) -> None:
    assert len([one for one in range(slices.COUNT) if ses_id in slices.number(one)]) == 1


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))
def test_a_day_of_turns_has_every_slice(start: datetime) -> None:
    turns = {slices.of_turn(start.replace(tzinfo=UTC) + slices.TURN * number) for number in range(96)}
    assert turns == {slices.number(one) for one in range(slices.COUNT)}


def test_slices_are_about_equal() -> None:
    """Of ids as SES makes them; so a turn lists a 96th of the bucket."""
    places = [int(one.after, 32) if one.after else 0 for one in map(slices.number, range(slices.COUNT))]
    widths = {right - left for left, right in zip(places, [*places[1:], 1024], strict=True)}
    assert widths <= {10, 11}


def test_template_has_the_times_of_the_code() -> None:
    resources = yaml.safe_load(TEMPLATE.read_text())["Resources"]
    queue = resources["ArrivalsQueue"]["Properties"]
    assert timedelta(seconds=queue["DelaySeconds"]) == turn.GRACE
    function = timedelta(seconds=resources["Function"]["Properties"]["Timeout"])
    assert function < timedelta(seconds=queue["VisibilityTimeout"]) < slices.TURN
    minutes = int(slices.TURN.total_seconds()) // 60
    schedule = resources["ReconcilerSchedule"]["Properties"]["ScheduleExpression"]
    assert schedule == f"cron(0/{minutes} * * * ? *)"
    alarm = resources["FindingsAlarm"]["Properties"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (metric.NAMESPACE, turn.METRIC)
    assert [one["Name"] for one in alarm["Dimensions"]] == [metric.STACK]


def test_event_of_the_schedule_is_told_from_others() -> None:
    assert turn.is_schedule(EVENT) and turn.moment(EVENT) == datetime(2026, 11, 23, 14, tzinfo=UTC)
    assert not turn.is_schedule({"Records": []})
    for time in (None, 5, "", "2026-11-23T14:00:00", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(turn.NoSchedule, match="scheduled event: time: expected"):
            turn.moment({**EVENT, "time": time})


def test_fields_of_the_sender_count_for_nothing() -> None:
    forged = fields_of_ses("abc", "bob@example.org", virus="PASS")
    start = fields_of_ses("abc", "ann@example.org", virus="FAIL") + forged + b"\r\n"
    found = envelope.receipt(CONFIG, "abc", NOW, start)
    assert found.recipients == ("ann@example.org",) and found.verdicts["virus"] == "FAIL"
    # Of another message: then nothing of it is SES's.
    with pytest.raises(envelope.EnvelopeUnknown):
        envelope.receipt(CONFIG, "other", NOW, forged)


def test_several_recipients_are_those_that_the_header_names() -> None:
    head = b"To: Ann <ann@example.org>, x@elsewhere.example\r\nCc: ANY@example.net, bob@example.org\r\n\r\n"
    found = envelope.receipt(CONFIG, "abc", NOW, fields_of_ses("abc", "") + head)
    assert found.recipients == ("ann@example.org", "ANY@example.net", "bob@example.org")


@given(st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
def test_no_octets_break_the_reading_of_an_envelope(octets: bytes) -> None:
    for start in (octets, fields_of_ses("abc") + octets, fields_of_ses("abc", "") + b"To: " + octets):
        try:
            found = envelope.receipt(CONFIG, "abc", NOW, start)
        except envelope.EnvelopeUnknown:
            continue
        assert found.ses_id == "abc" and found.recipients and found.arrived.tzinfo is UTC


def test_metric_is_one_line_of_the_log() -> None:
    text = metric.line("ReconcilerFindings", 3, "mail", NOW, {"event": "reconciled"})
    assert "\n" not in text
    assert json.loads(text) == {
        "_aws": {
            "Timestamp": 1795442820000,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Twinmail",
                    "Dimensions": [["Stack"]],
                    "Metrics": [{"Name": "ReconcilerFindings", "Unit": "Count"}],
                }
            ],
        },
        "Stack": "mail",
        "ReconcilerFindings": 3,
        "event": "reconciled",
    }


def test_document_says_what_it_costs() -> None:
    prices, turns = Prices.load(), slices.COUNT * 30.4375
    request, read = prices["s3-write"].usd, prices["dynamodb-read"].usd
    # A notice, and a listing on each day of the window.
    looks = 1 + turn.WINDOW.days
    lines: list[list[float]] = [[], [], [], []]
    for incoming, stored in ((1_000, 12_000), (1_000, 1_000_000), (30_000, 1_000_000)):
        listing = turns * (stored // slices.COUNT // 1000 + 1) * request
        looking = incoming * looks * (request + read)
        whole = turns * (stored // 1000) * request
        for line, usd in zip(lines, (listing, looking, listing + looking, whole), strict=True):
            line.append(usd)
    text = (TEMPLATE.parents[1] / "docs" / "reconciliation.md").read_text().replace("*", "")
    for line in lines:
        assert " | ".join(f"${usd:.2f}" for usd in line) in text


def test_turn_asks_for_a_96th_of_a_large_bucket() -> None:
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(100_000)]
    keys = sorted(f"incoming/{base64.b32hexencode(bytes.fromhex(one)).decode().lower()[:40]}" for one in ids)

    class Bucket:
        """S3's listing of many objects, all of them old."""

        pages = 0

        def get_paginator(self, name: str) -> "Bucket":
            assert name == "list_objects_v2"
            return self

        def paginate(self, StartAfter: str, **_: str) -> Iterator[dict[str, object]]:
            place = bisect.bisect_right(keys, StartAfter)
            while place < len(keys):
                self.pages += 1
                page = keys[place : place + 1000]
                yield {"Contents": [{"Key": one, "LastModified": NOW - timedelta(days=9)} for one in page]}
                place += 1000

    bucket = Bucket()
    processor = Processor(CONFIG, bucket, Index(None, "t"))

    class NoNotices:
        def due(self) -> Iterator[None]:
            return iter(())

    pages = []
    for number in range(slices.COUNT):
        bucket.pages = 0
        at = NOW.replace(hour=0, minute=0) + number * slices.TURN
        findings = turn.Turn(processor, NoNotices(), at, lambda: True, lambda _: None).run()  # type: ignore[arg-type]
        assert findings.looked == 0 and findings.whole
        pages.append(bucket.pages)
    # All of it in a day, and no turn much more than its part.
    assert sum(pages) <= len(keys) // 1000 + 2 * slices.COUNT
