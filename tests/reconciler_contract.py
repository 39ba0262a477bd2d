"""What the reconciler must come to, whatever was lost: one contract, for moto and for LocalStack."""

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.log_contract import RAW, Crash, Store, crash_at
from twinmail import layout
from twinmail.manifest import Delivery
from twinmail.processor import STEPS
from twinmail.reconciler import arrivals, slices
from twinmail.reconciler.arrivals import Arrivals
from twinmail.reconciler.turn import METRIC, WINDOW, Findings, Turn
from twinmail.ses_event import Receipt


def notice(receipt: Receipt) -> str:
    """What SES tells the topic of the S3 action."""
    verdicts = {f"{name}Verdict": {"status": value} for name, value in receipt.verdicts.items()}
    arrived = receipt.arrived.isoformat(timespec="milliseconds")
    mail = {"timestamp": arrived, "source": receipt.mail_from, "messageId": receipt.ses_id}
    said = {"recipients": list(receipt.recipients), **verdicts, "action": {"type": "S3"}}
    return json.dumps({"notificationType": "Received", "mail": mail, "receipt": said})


def fields_of_ses(ses_id: str, recipient: str = "ann@example.org", virus: str = "PASS") -> bytes:
    """What SES puts before a message for one recipient; empty is several."""
    whom = f"\r\n for {recipient}" if recipient else ""
    return (
        "Return-Path: <a@example.com>\r\n"
        "Received: from mail.example.com (mail.example.com [192.0.2.1])\r\n"
        f" by inbound-smtp.eu-central-1.amazonaws.com with SMTP id {ses_id}{whom};\r\n"
        " Sun, 22 Nov 2026 23:59:59 +0000 (UTC)\r\n"
        f"X-SES-Spam-Verdict: PASS\r\nX-SES-Virus-Verdict: {virus}\r\n"
        "Received-SPF: pass (spfCheck: x) client-ip=192.0.2.1;\r\n"
        "Authentication-Results: amazonses.com;\r\n spf=pass (x) client-ip=192.0.2.1;\r\n"
        " dkim=fail header.i=@other.example;\r\n dkim=pass header.i=@example.com;\r\n"
        " dmarc=none header.from=example.com;\r\n"
    ).encode()


@dataclass
class Witnessed:
    """A log, the queue of its arrivals without delay, and turns of the reconciler."""

    store: Store
    sqs: Any
    queue: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    handles: list[str] = field(default_factory=list)

    def receive_message(self, **options: Any) -> Any:
        """As the client's, which remembers nothing."""
        answer = self.sqs.receive_message(**options)
        self.handles += [one["ReceiptHandle"] for one in answer.get("Messages", ())]
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sqs, name)

    def release(self) -> None:
        """The time-out passes after which the queue shows again what it handed out."""
        for handle in self.handles:
            with contextlib.suppress(ClientError):
                self.sqs.change_message_visibility(
                    QueueUrl=self.url, ReceiptHandle=handle, VisibilityTimeout=0
                )
        self.handles.clear()

    def tell(self, receipt: Receipt) -> None:
        """SES tells the queue of a message."""
        self.sqs.send_message(QueueUrl=self.url, MessageBody=notice(receipt))

    @property
    def url(self) -> str:
        return str(self.sqs.get_queue_url(QueueName=self.queue)["QueueUrl"])

    def turn(
        self, at: datetime | None = None, in_time: Callable[[], bool] = lambda: True, **options: Any
    ) -> Findings:
        """A turn; the objects that the tests make now are due in one an hour later."""
        return Turn(
            self.store.processor(**options),
            Arrivals(self, self.queue),
            at or self.night(),
            in_time,
            lambda line: self.lines.append(json.loads(line)),
        ).run()

    def night(self, ses_id: str = "~") -> datetime:
        """A time from an hour to a day and an hour from now, in whose turn the slice of *ses_id* is looked at."""
        start = datetime.now(UTC) + timedelta(hours=1)
        turns = (start + slices.TURN * number for number in range(slices.COUNT))
        return next(one for one in turns if ses_id in slices.of_turn(one))

    def announced(self) -> int:
        """Notices in the queue, also those that somebody holds."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        said = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(said[one]) for one in names)

    def stored_only(
        self, *, recipient: str = "ann@example.org", virus: str = "PASS", raw: bytes = RAW
    ) -> str:
        """A message of which no event tells; its SES id."""
        ses_id = uuid.uuid4().hex
        body = fields_of_ses(ses_id, recipient, virus) + raw
        self.store.s3.put_object(Bucket=self.store.config.bucket, Key=layout.incoming_key(ses_id), Body=body)
        return ses_id


class ReconcilerContract:
    """Subclasses provide the fixture ``witnessed``, with a queue that nobody else uses."""

    @pytest.fixture(autouse=True)
    def no_waiting(self, witnessed: Witnessed, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """No long polls; and what a test leaves in the queue goes."""
        monkeypatch.setattr(arrivals, "_WAIT_SECONDS", 0)
        yield
        witnessed.release()
        for arrival in Arrivals(witnessed.sqs, witnessed.queue).due():
            Arrivals(witnessed.sqs, witnessed.queue).done(arrival)

    def test_message_whose_event_was_lost_is_recovered_once(self, witnessed: Witnessed) -> None:
        receipt = witnessed.store.receive(recipients=("ann@example.org", "bob@example.org"))
        witnessed.tell(receipt)
        findings = witnessed.turn()
        assert (findings.recovered, findings.failed, findings.whole) == (1, 0, True)
        (entry,) = witnessed.store.entries(receipt)
        assert entry.deliveries == (Delivery("ann"), Delivery("bob"))
        assert witnessed.store.body(entry.key).endswith(RAW)
        assert not witnessed.announced()
        # The same entry as the event would have made.
        assert witnessed.store.processor().process(receipt).entry is None

    def test_message_in_the_log_is_no_finding(self, witnessed: Witnessed) -> None:
        receipt = witnessed.store.receive()
        witnessed.store.processor().process(receipt)
        witnessed.tell(receipt)
        findings = witnessed.turn()
        assert findings.count == 0 and not witnessed.announced()
        metric = witnessed.lines[-1]
        assert metric[METRIC] == 0 and metric["Stack"] == witnessed.store.config.stack
        assert metric["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Twinmail"

    @pytest.mark.parametrize("step", STEPS)
    def test_message_whose_function_died_is_completed(self, witnessed: Witnessed, step: str) -> None:
        receipt = witnessed.store.receive()
        with pytest.raises(Crash):
            witnessed.store.processor(checkpoint=crash_at(step)).process(receipt)
        witnessed.tell(receipt)
        assert witnessed.turn().failed == 0
        assert len(witnessed.store.entries(receipt)) == 1

    def test_reconciler_that_dies_is_completed_by_the_event(self, witnessed: Witnessed) -> None:
        for step in STEPS:
            receipt = witnessed.store.receive()
            witnessed.tell(receipt)
            findings = witnessed.turn(checkpoint=crash_at(step))
            assert findings.failed == 1 and witnessed.announced() == 1
            witnessed.store.processor().process(receipt)
            assert len(witnessed.store.entries(receipt)) == 1
            witnessed.release()

    @pytest.mark.parametrize("step", ["received", "processed", "claimed", "indexed"])
    def test_reconciler_and_function_at_once_make_one_entry(self, witnessed: Witnessed, step: str) -> None:
        receipt = witnessed.store.receive()
        witnessed.tell(receipt)
        barrier = threading.Barrier(3)

        def meet(reached: str) -> None:
            if reached == step:
                barrier.wait(30)

        outcomes: list[Any] = []

        def live() -> None:
            outcomes.append(witnessed.store.processor(checkpoint=meet).process(receipt))

        def reconcile() -> None:
            outcomes.append(witnessed.turn(checkpoint=meet))

        threads = [threading.Thread(target=one) for one in (live, live, reconcile)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(outcomes) == 3
        assert len(witnessed.store.entries(receipt)) == 1
        assert len(witnessed.store.items("ann", receipt)) == 1
        assert not witnessed.announced()

    def test_listing_and_a_late_event_at_once_make_one_entry(self, witnessed: Witnessed) -> None:
        # What the stored message says of its envelope differs from the event: still one entry, and its object.
        ses_id = witnessed.stored_only()
        receipt = Receipt(ses_id, datetime.now(UTC), "a@example.com", ("ann@example.org",), {"spam": "GRAY"})
        barrier = threading.Barrier(2)

        def meet(reached: str) -> None:
            if reached == "indexed":
                barrier.wait(30)

        threads = [
            threading.Thread(target=lambda: witnessed.store.processor(checkpoint=meet).process(receipt)),
            threading.Thread(target=lambda: witnessed.turn(witnessed.night(ses_id), checkpoint=meet)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        (entry,) = witnessed.store.entries(receipt)
        assert len(witnessed.store.body(entry.key)) == entry.size

    def test_message_that_nobody_told_of_is_found_by_the_listing(self, witnessed: Witnessed) -> None:
        ses_id = witnessed.stored_only()
        witnessed.turn(witnessed.night(ses_id))
        receipt = Receipt(ses_id, datetime.now(UTC), "", (), {})
        (entry,) = witnessed.store.entries(receipt)
        assert entry.deliveries == (Delivery("ann"),)
        assert entry.mail_from == "a@example.com" and entry.rcpt_to == ("ann@example.org",)
        assert entry.arrived == datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
        assert entry.verdicts == {
            "spam": "PASS",
            "virus": "PASS",
            "spf": "PASS",
            "dkim": "PASS",
            "dmarc": "GRAY",
        }
        assert witnessed.store.body(entry.key).endswith(RAW)
        lines = [one for one in witnessed.lines if one.get("ses_id") == ses_id]
        assert [(one["event"], one["witness"]) for one in lines] == [("recovered", "listing")]
        # A whole day of turns finds nothing more of it.
        assert witnessed.turn(witnessed.night(ses_id)).count == 0
        assert len(witnessed.store.entries(receipt)) == 1

    def test_message_that_is_young_or_old_is_not_looked_at_by_the_listing(self, witnessed: Witnessed) -> None:
        ses_id = witnessed.stored_only()
        for days in (-2, WINDOW.days + 1):
            witnessed.turn(witnessed.night(ses_id) + timedelta(days=days))
            assert not witnessed.store.entries(Receipt(ses_id, datetime.now(UTC), "", (), {}))

    def test_infected_message_is_recovered_into_quarantine(self, witnessed: Witnessed) -> None:
        ses_id = witnessed.stored_only(virus="FAIL")
        witnessed.turn(witnessed.night(ses_id))
        (entry,) = witnessed.store.entries(Receipt(ses_id, datetime.now(UTC), "", (), {}))
        assert entry.deliveries == () and entry.key.startswith(layout.QUARANTINE)

    def test_message_that_says_nothing_of_its_recipients_stays_a_finding(self, witnessed: Witnessed) -> None:
        ses_id = witnessed.stored_only(recipient="")
        findings = witnessed.turn(witnessed.night(ses_id))
        assert findings.failed == 1
        assert any("./inv show" in one.get("error", "") for one in witnessed.lines)

    def test_one_that_fails_does_not_keep_the_others_waiting(self, witnessed: Witnessed) -> None:
        good, missing = witnessed.store.receive(), witnessed.store.receive()
        key = layout.incoming_key(missing.ses_id)
        witnessed.store.s3.delete_object(Bucket=witnessed.store.config.bucket, Key=key)
        witnessed.tell(missing)
        witnessed.sqs.send_message(QueueUrl=witnessed.url, MessageBody="no notice")
        greeting = "Successfully validated SNS topic for Amazon SES email receiving."
        witnessed.sqs.send_message(QueueUrl=witnessed.url, MessageBody=greeting)
        witnessed.tell(good)
        findings = witnessed.turn()
        assert (findings.recovered, findings.failed) == (1, 2)
        assert len(witnessed.store.entries(good)) == 1
        assert witnessed.announced() == 2
        errors = [one["error"] for one in witnessed.lines if one["event"] == "not recovered"]
        assert any(one.startswith("MessageMissing") for one in errors)
        assert any(one.startswith("EventError") for one in errors)
        witnessed.release()

    def test_turn_ends_in_time_and_leaves_the_rest_to_the_next(self, witnessed: Witnessed) -> None:
        receipts = [witnessed.store.receive() for _ in range(3)]
        for receipt in receipts:
            witnessed.tell(receipt)
        left = iter([True, False])
        findings = witnessed.turn(in_time=lambda: next(left, False))
        assert findings.recovered == 1 and not findings.whole
        witnessed.release()
        assert witnessed.turn().recovered == 2
        assert all(len(witnessed.store.entries(one)) == 1 for one in receipts)
