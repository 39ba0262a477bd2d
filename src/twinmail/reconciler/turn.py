"""One turn of the reconciler: what was stored some minutes ago and is not in the log is brought into it.

There is no second way into the log: each message goes through `Processor`, whose claim decides between this
and an event that is only late.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from twinmail import layout, metric
from twinmail.errors import PermanentError
from twinmail.processor import Outcome, Processor
from twinmail.reconciler import envelope, slices
from twinmail.reconciler.arrivals import Arrivals

METRIC = "ReconcilerFindings"

GRACE = timedelta(minutes=5)
"""What is younger is the function's, which may be at work; `lambda/stack.yaml` delays notices as long."""

WINDOW = timedelta(days=3)
"""What is older was looked at by the listings of other days."""

RESERVE = timedelta(seconds=45)
"""What a turn leaves of the function's time for the message that it is at."""

Write = Callable[[str], None]


class NoSchedule(PermanentError):
    """The event is not one of the schedule."""


def is_schedule(event: Mapping[str, Any]) -> bool:
    """Whether EventBridge's schedule sent *event* (EventBridge User Guide, "Scheduled Event")."""
    return event.get("source") == "aws.events" and event.get("detail-type") == "Scheduled Event"


def moment(event: Mapping[str, Any]) -> datetime:
    """The time that *event* of a schedule is for.

    Raises:
        NoSchedule: it does not say one.
    """
    try:
        at = datetime.fromisoformat(event["time"])
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise NoSchedule(f"scheduled event: time: expected one with a time zone, got {event.get('time')!r:.80}")


@dataclass
class Findings:
    """What a turn came to.

    Attributes:
        looked: messages that it looked at.
        recovered: those that were not in the log, and are now.
        failed: those that are still not in it.
        whole: it came to its end in time.
    """

    looked: int = 0
    recovered: int = 0
    failed: int = 0
    whole: bool = True

    @property
    def count(self) -> int:
        """Messages that the function should have brought into the log and did not."""
        return self.recovered + self.failed


@dataclass
class Turn:
    """One turn.

    Args:
        at: what counts as now.
        in_time: whether there is time for one more message.
        write: takes a line for the log.
    """

    processor: Processor
    arrivals: Arrivals
    at: datetime
    in_time: Callable[[], bool]
    write: Write
    findings: Findings = field(default_factory=Findings)

    def run(self) -> Findings:
        """Look at the notices that are due, then at the slice of this turn, and report.

        What fails is tried again: a notice in the next turn, an object in tomorrow's listing.

        Raises:
            botocore.exceptions.ClientError: the queue or the listing is not to be had.
        """
        try:
            self._notices()
            self._slice()
        finally:
            said = {
                "event": "reconciled",
                "looked": self.findings.looked,
                "recovered": self.findings.recovered,
                "failed": self.findings.failed,
                "whole": self.findings.whole,
            }
            self.write(
                metric.line(METRIC, self.findings.count, self.processor.config.stack, datetime.now(UTC), said)
            )
        return self.findings

    def _notices(self) -> None:
        for arrival in self.arrivals.due():
            if not self._goes_on():
                return
            about = {"witness": "notice"}

            def act(arrival: Any = arrival, about: dict[str, str] = about) -> Outcome | None:
                receipt = arrival.receipt()
                if receipt is None or receipt.ses_id == layout.SETUP_NOTIFICATION:
                    return None
                about["ses_id"] = receipt.ses_id
                return self.processor.process(receipt)

            if self._tried(about, act):
                self.arrivals.done(arrival)

    def _slice(self) -> None:
        for ses_id, stored in self._stored(slices.of_turn(self.at)):
            if not self._goes_on():
                return

            def act(ses_id: str = ses_id, stored: datetime = stored) -> Outcome | None:
                if self.processor.committed(ses_id):
                    return None
                key = layout.incoming_key(ses_id)
                last = f"bytes=0-{envelope.START_BYTES - 1}"
                start = self.processor.s3.get_object(
                    Bucket=self.processor.config.bucket, Key=key, Range=last
                )["Body"].read()
                return self.processor.recover(envelope.receipt(self.processor.config, ses_id, stored, start))

            self._tried({"witness": "listing", "ses_id": ses_id}, act)

    def _stored(self, part: slices.Slice) -> Iterator[tuple[str, datetime]]:
        """The messages in *part* of ``incoming/`` that are due, and when SES stored them."""
        pages = self.processor.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.processor.config.bucket,
            Prefix=layout.INCOMING,
            StartAfter=f"{layout.INCOMING}{part.after}",
        )
        for one in (one for page in pages for one in page.get("Contents", ())):
            ses_id, stored = one["Key"].removeprefix(layout.INCOMING), one["LastModified"]
            if part.last is not None and ses_id > part.last:
                return
            if ses_id in part and ses_id != layout.SETUP_NOTIFICATION and GRACE <= self.at - stored <= WINDOW:
                yield ses_id, stored

    def _goes_on(self) -> bool:
        self.findings.whole = self.findings.whole and self.in_time()
        return self.findings.whole

    def _tried(self, about: Mapping[str, str], act: Callable[[], Outcome | None]) -> bool:
        """Do *act* for one message, and say whether it is in the log now; None is that it was."""
        self.findings.looked += 1
        try:
            outcome = act()
        except Exception as error:  # noqa: BLE001  whatever it is, it must not keep the others waiting
            self.findings.failed += 1
            failure = f"{type(error).__name__}: {error}"
            self.write(json.dumps({**about, "event": "not recovered", "error": failure}))
            return False
        if outcome and outcome.entry:
            self.findings.recovered += 1
            parked = {"parked": outcome.parked} if outcome.parked else {}
            self.write(
                json.dumps({**about, "event": "recovered", "manifest": outcome.manifest_key, **parked})
            )
        return True


def start(
    event: Mapping[str, Any], left: Callable[[], int], processor: Processor, arrivals: Arrivals, write: Write
) -> Findings:
    """The turn that *event* of the schedule is for; *left* says how many milliseconds the function has.

    Raises:
        NoSchedule: the event has no time.
        botocore.exceptions.ClientError: see `Turn.run`.
    """

    def in_time() -> bool:
        return timedelta(milliseconds=left()) > RESERVE

    return Turn(processor, arrivals, moment(event), in_time, write).run()
