"""The dead-letter queue: every letter is read, tried again, and taken out only when that worked."""

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from tests.cloud import CONFIG
from tests.reconciler_contract import notice
from tests.sending_events import event as sending_event
from tests.sending_events import sns
from tests.unit.test_invocation import event as ses_event
from twinmail.dead_letters import queue
from twinmail.dead_letters.letter import Kind, Letter, read
from twinmail.dead_letters.queue import DeadLetters, NotInvoked
from twinmail.reconciler.arrivals import Arrival
from twinmail.ses_event import receipts

TURN = {"source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-11-23T14:00:00Z"}


def record(event: Any, **changes: Any) -> str:
    """What Lambda puts into the queue."""
    return json.dumps(
        {
            "version": "1.0",
            "timestamp": "2026-11-23T14:05:10.123Z",
            "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
            "requestPayload": event,
            "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
            "responsePayload": {"errorType": "MessageMissing", "errorMessage": "not there\nyet"},
            **changes,
        }
    )


def letter(body: str, **attributes: str) -> Letter:
    return read("x", body, attributes)


def test_record_of_lambda_is_read() -> None:
    found = letter(record(ses_event("a", "b")))
    assert (found.kind, found.ses_ids, found.attempts) == (Kind.MESSAGE, ("a", "b"), 3)
    assert found.error == "MessageMissing: not there yet"
    assert found.at is not None and found.at.isoformat() == "2026-11-23T14:05:10.123000+00:00"
    assert found.event == ses_event("a", "b")


def test_event_that_was_never_tried_says_why() -> None:
    found = letter(
        record(ses_event("a"), requestContext={"condition": "EventAgeExceeded"}, responsePayload=None)
    )
    assert found.error == "EventAgeExceeded" and found.attempts == 0


def test_other_events_are_named() -> None:
    assert letter(record(TURN)).kind is Kind.TURN
    report = letter(record({"Records": [sns(sending_event("Send"))]}))
    assert report.kind is Kind.REPORT and len(report.ses_ids) == 1
    assert letter(record({"Records": []})).kind is Kind.UNKNOWN
    assert letter("neither this").error == "no record of Lambda: neither this"


def test_notice_that_was_moved_here_becomes_the_event_of_ses() -> None:
    (receipt,) = receipts(ses_event("abc"))
    found = letter(notice(receipt), SentTimestamp="1795442820000", ApproximateReceiveCount="97")
    assert (found.kind, found.ses_ids, found.attempts) == (Kind.MESSAGE, ("abc",), 97)
    assert found.event is not None and receipts(found.event) == (Arrival("", notice(receipt)).receipt(),)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "timestamp",
    "requestContext",
    "requestPayload",
    "responsePayload",
    "notificationType",
    "mail",
    "receipt",
]


@given(st.text(max_size=100) | st.dictionaries(st.sampled_from(NAMES), values).map(json.dumps), values)
def test_whatever_is_in_the_queue_is_a_letter(body: str, event: Any) -> None:
    for text in (body, record(event), record({"Records": [event]}), record({"Records": [{"ses": event}]})):
        found = letter(text, SentTimestamp=body)
        assert len(found.error) <= 1000 and "\n" not in found.error
        json.dumps(found.event)


class Function:
    """Lambda's client: knows what fails."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.away = False
        self.seen: list[dict[str, Any]] = []

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        assert FunctionName == CONFIG.function
        if self.away:
            raise EndpointConnectionError(endpoint_url="https://lambda")
        event = json.loads(Payload)
        self.seen.append(event)
        (receipt,) = receipts(event)
        if receipt.ses_id in self.failing:
            error = {"errorType": "MessageMissing", "errorMessage": "still not there"}
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(error).encode())}
        return {"Payload": io.BytesIO(b"null")}


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeadLetters]:
    monkeypatch.setattr(queue, "_WAIT_SECONDS", 0)
    with mock_aws():
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        sqs = boto3.client("sqs", region_name=CONFIG.region, **keys)
        sqs.create_queue(QueueName=CONFIG.dead_letter_queue)
        yield DeadLetters(CONFIG, sqs, Function())


def put(letters: DeadLetters, *ses_ids: str) -> None:
    url = letters.sqs.get_queue_url(QueueName=CONFIG.dead_letter_queue)["QueueUrl"]
    for one in ses_ids:
        letters.sqs.send_message(QueueUrl=url, MessageBody=record(ses_event(one)))


def there(letters: DeadLetters) -> set[str]:
    with letters.held() as held:
        return {ses_id for one in held for ses_id in one.letter.ses_ids}


def test_listing_takes_nothing_out(letters: DeadLetters) -> None:
    wanted = {f"m{number}" for number in range(25)}
    put(letters, *wanted)
    assert there(letters) == wanted
    with letters.held():
        assert there(letters) == set(), "somebody else saw a letter that is looked at"
    assert there(letters) == wanted


def test_only_what_worked_is_taken_out(letters: DeadLetters) -> None:
    put(letters, "good", "bad")
    letters.function.failing = {"bad"}
    with letters.held() as held:
        for one in held:
            error = letters.retry(one.letter)
            assert error == ("MessageMissing: still not there" if one.letter.ses_ids == ("bad",) else "")
            if not error:
                letters.remove(one)
    assert there(letters) == {"bad"}
    assert letters.function.seen == [one for one in letters.function.seen if "Records" in one]


def test_function_that_cannot_be_asked_loses_nothing(letters: DeadLetters) -> None:
    put(letters, "a", "b")
    letters.function.away = True
    with pytest.raises(NotInvoked, match="try again later"), letters.held() as held:
        letters.retry(held[0].letter)
    assert there(letters) == {"a", "b"}


def test_letter_without_an_event_stays(letters: DeadLetters) -> None:
    assert letters.retry(letter("no record")) == "it holds no event that could be tried again"
