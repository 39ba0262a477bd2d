"""What is done about events of sent messages: one contract, for moto and for LocalStack."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.log_contract import Crash, Store, crash_at
from tests.sending_events import bounce, complaint, event, sns
from twinmail import invocation
from twinmail.feedback import Feedback
from twinmail.manifest import Delivery, Entry
from twinmail.processor import STEPS
from twinmail.sending_event import SendingEvent
from twinmail.sending_report import SendingReport
from twinmail.sent_record import SentRecord


def unexpected(*_: Any) -> Any:
    raise AssertionError("not a message that came in")


def handle(store: Store, *documents: Any, **options: Any) -> list[dict[str, Any]]:
    """Invoke the function with *documents* in one event of SNS; what it logged."""
    lines: list[dict[str, Any]] = []
    reporter = SendingReport(store.config, store.s3, store.processor(**options))

    def report(one: SendingEvent) -> Mapping[str, Any]:
        return reporter.report(one)

    def write(line: str) -> None:
        lines.append(json.loads(line))

    invocation.run({"Records": [sns(one) for one in documents]}, unexpected, report, write)
    return lines


def fresh(make: Callable[..., dict[str, Any]], name: str, **more: Any) -> dict[str, Any]:
    """An event about a message of its own."""
    return make(messageId=f"0107018f0a1b2c3d-{name}-000000", **more)


class ReportContract:
    """Subclasses provide the fixture ``store``."""

    def test_sent_message_is_recorded_once(self, store: Store) -> None:
        document = fresh(lambda **more: event("Send", **more), "recorded")
        (first, second, third) = handle(store, document, document, document)
        assert [first["event"], second["event"], third["event"]] == ["sent", "repeated", "repeated"]
        (key,) = [one for one in store.keys("state/sent/") if "recorded" in one]
        kept = SentRecord.from_bytes(store.body(key))
        assert (kept.key, kept.mailbox, kept.message_id) == (key, "ann", "<mine@client.example.org>")

    @pytest.mark.parametrize("make", [bounce, complaint])
    def test_notice_is_one_message_of_the_log(
        self, store: Store, make: Callable[..., dict[str, Any]]
    ) -> None:
        document = fresh(make, f"noticed-{make.__name__}")
        lines = handle(store, document, document)
        handle(store, document)
        kind = make.__name__
        assert [one["event"] for one in lines] == [kind, "repeated"] and lines[0]["told"] == ["ann"]
        found = Feedback.from_bytes(store.body(lines[0]["key"]))
        assert found.mailboxes == ("ann",)
        (key,) = [one for one in store.keys("manifest/") if f"feedback-{found.id}" in one]
        entry = Entry.from_bytes(store.body(key))
        assert entry.deliveries == (Delivery("ann"),)
        assert (entry.mail_from, entry.arrived) == ("", found.at)
        message = store.body(entry.key)
        assert len(message) == entry.size and b"\r\nAuto-Submitted: auto-replied\r\n" in message

    @pytest.mark.parametrize("step", STEPS)
    def test_a_crash_between_two_writes_leaves_one_notice(self, store: Store, step: str) -> None:
        document = fresh(bounce, f"crashed-{step}")
        with pytest.raises(Crash):
            handle(store, document, checkpoint=crash_at(step))
        (line,) = handle(store, document)
        assert line["event"] == "bounce"
        name = line["key"].rpartition("/")[2].removesuffix(".json")
        assert len([one for one in store.keys("manifest/") if name in one]) == 1
        assert len([one for one in store.keys("state/feedback/") if name in one]) == 1

    def test_notice_goes_to_whoever_sent_it(self, store: Store) -> None:
        by_webmail = {"tags": {"ses:caller-identity": ["tests-smtp-webmail"]}, "source": "bob@example.org"}
        by_bob = {"tags": {"ses:caller-identity": ["tests-smtp-bob"]}, "source": "ann@example.org"}
        lines = handle(
            store, fresh(bounce, "to-1", **by_webmail, feedback_id="a"), fresh(bounce, "to-2", **by_bob)
        )
        assert [one["told"] for one in lines] == [["bob"], ["bob"]]

    def test_feedback_about_nobody_here_is_kept_and_told_to_nobody(self, store: Store) -> None:
        document = fresh(bounce, "nobody", source="x@example.com", tags={})
        (line,) = handle(store, document)
        assert line["told"] == [] and line["key"] in store.keys("state/feedback/")

    def test_what_is_no_event_does_not_keep_others_from_being_handled(self, store: Store) -> None:
        document = fresh(lambda **more: event("Send", **more), "beside")
        with pytest.raises(Exception, match="event about a sent message"):
            handle(
                store, "Successfully validated SNS topic for Amazon SES event publishing.", "{}x", document
            )
        assert [one for one in store.keys("state/sent/") if "beside" in one]
