"""How the whole system is: every server, the queues, and what became of sent mail, on one screen.

Each part is asked on its own and may be down: then its problem is what is shown of it.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from twinmail import layout
from twinmail.config import Config
from twinmail.errors import TwinmailError
from twinmail.feedback import Feedback
from twinmail.server_page import Page

DAYS = 30
SHOWN = 5

BOUNCE_LIMIT, COMPLAINT_LIMIT = 0.05, 0.001
"""Rates from which SES puts an account under review (SES Developer Guide, "Enforcement FAQs")."""
CERTIFICATE_DAYS = 14
"""A person is told when the certificate of a server has less left."""
ENOUGH = 100
"""Sent messages below which a rate says nothing: one bounce of ten is no 10 %."""

LOW_DISK = 0.1
"""Share of a server's disk below which somebody should make room."""
_ANSWER = TypeVar("_ANSWER")


@dataclass(frozen=True)
class ServerStatus:
    """One mail server, by what its syncer says of itself.

    Attributes:
        said: the whole of ``/status``; empty if it did not answer.
        problems: what a person should know, in words.
        lag_seconds: age of the oldest entry of the log that it has not looked at, 0.0 if there is none; None
            if nobody could say.
    """

    name: str
    said: Mapping[str, Any]
    problems: tuple[str, ...]
    lag_seconds: float | None = None


@dataclass(frozen=True)
class QueueStatus:
    """One queue: messages that wait, and that are in somebody's hands; None if it did not answer."""

    name: str
    waiting: int | None
    in_hand: int | None
    problem: str = ""


@dataclass(frozen=True)
class SendingStatus:
    """What became of the mail of the last `DAYS` days.

    Attributes:
        sent: messages that SES took.
        bounces: that came back for good; these count for SES.
        soft_bounces: that came back for now, or automatic answers.
        latest: the newest bounces and complaints.
    """

    sent: int = 0
    bounces: int = 0
    soft_bounces: int = 0
    complaints: int = 0
    rejects: int = 0
    latest: tuple[Mapping[str, Any], ...] = ()
    problem: str = ""

    @property
    def bounce_rate(self) -> float:
        """Bounces a sent message."""
        return self.bounces / self.sent if self.sent else 0.0

    @property
    def complaint_rate(self) -> float:
        """Complaints a sent message."""
        return self.complaints / self.sent if self.sent else 0.0


@dataclass(frozen=True)
class CertificateStatus:
    """The certificate that a server shows to mail clients; *days* until it ends, None if it was not seen."""

    name: str
    days: float | None
    problem: str = ""


@dataclass(frozen=True)
class Slow:
    """What is asked less often than the rest, because it takes longer.

    Attributes:
        bucket: octets in it.
        certificates: by server, when its certificate ends.
        month: dollars before tax.
    """

    bucket: Callable[[], int] | None = None
    certificates: Mapping[str, Callable[[], datetime]] = field(default_factory=dict)
    month: Callable[[], float] | None = None


@dataclass(frozen=True)
class Status:
    """Everything.

    Attributes:
        endpoint: where AWS is, or the name of the region.
        problems: of all parts, one line each; empty when all is well.
        bucket_octets: in the bucket, earlier versions included; None if nobody could say.
        month_usd: what a month costs, before tax, as far as it can be measured.
    """

    endpoint: str
    servers: tuple[ServerStatus, ...]
    queues: tuple[QueueStatus, ...]
    dead_letters: QueueStatus
    sending: SendingStatus
    problems: tuple[str, ...] = field(default=())
    bucket_octets: int | None = None
    certificates: tuple[CertificateStatus, ...] = ()
    month_usd: float | None = None
    budget_usd: float = 0.0


def collect(
    config: Config,
    endpoint: str,
    servers: Mapping[str, Page],
    sqs: Any,
    s3: Any,
    now: datetime | None = None,
    slow: Slow | None = None,
) -> Status:
    """Ask all parts at once.

    Args:
        servers: the way to the syncer's pages, by server.
        sqs, s3: boto3 clients, with short time-outs.
    """
    slow, moment = slow or Slow(), now or datetime.now(UTC)
    with ThreadPoolExecutor(len(servers) * 2 + len(slow.certificates) + 4) as pool:
        lag = partial(lag_seconds, s3, config, moment)
        asked = [pool.submit(server_status, name, page, lag) for name, page in servers.items()]
        queues = [pool.submit(queue_status, sqs, config.queue(name)) for name in config.servers]
        dead = pool.submit(queue_status, sqs, config.dead_letter_queue)
        sending = pool.submit(sending_status, s3, config, moment)
        bucket = pool.submit(_figure, slow.bucket)
        month = pool.submit(_figure, slow.month)
        certificates = [
            pool.submit(certificate_status, name, ask, moment) for name, ask in slow.certificates.items()
        ]
        octets, dollars = bucket.result(), month.result()
        found = Status(
            endpoint,
            tuple(one.result() for one in asked),
            tuple(one.result() for one in queues),
            dead.result(),
            sending.result(),
            bucket_octets=None if octets is None else int(octets),
            certificates=tuple(one.result() for one in certificates),
            month_usd=dollars,
            budget_usd=config.budget.month_usd,
        )
    return replace(found, problems=_problems(found))


def certificate_status(name: str, ask: Callable[[], datetime], now: datetime) -> CertificateStatus:
    """How long the certificate of the server *name* is still valid."""

    def days() -> CertificateStatus:
        left = (ask() - now).total_seconds() / 86400
        problem = f"its certificate ends in {left:.0f} days" if left < CERTIFICATE_DAYS else ""
        return CertificateStatus(name, left, problem)

    return _guarded(days, lambda problem: CertificateStatus(name, None, f"certificate: {problem}"))


def _figure(ask: Callable[[], float] | None) -> float | None:
    return _guarded(ask, lambda problem: None) if ask else None


def lag_seconds(s3: Any, config: Config, now: datetime, cursor: str) -> float:
    """How old the oldest entry is that sorts after *cursor*, the last one looked at; 0.0 if there is none."""
    told = s3.list_objects_v2(Bucket=config.bucket, Prefix=layout.MANIFEST, StartAfter=cursor, MaxKeys=1)
    found = told.get("Contents", ())
    if not found:
        return 0.0
    return max(0.0, (now - layout.ManifestKey.parse(found[0]["Key"]).committed).total_seconds())


def server_status(name: str, page: Page, lag: Callable[[str], float]) -> ServerStatus:
    """Ask the syncer of the server *name*, and for the *lag* behind the log of where it is."""
    try:
        said = json.loads(page.read("/status"))
        if not isinstance(said, dict):
            raise ValueError("expected an object")
    except (TwinmailError, ValueError) as error:
        return ServerStatus(name, {}, (f"its syncer does not answer at {page.where}: {error}",))
    behind = _figure(lambda: lag(str(said.get("cursor") or "")))
    return ServerStatus(name, said, tuple(troubles(said)), behind)


def troubles(said: Mapping[str, Any]) -> list[str]:
    """What in ``/status`` a person should know. Parts that are absent are of another version, and well."""
    found = [] if said.get("ready") else ["it has not looked at the log yet"]
    for what, trouble in (said.get("outages") or {}).items():
        if trouble:
            found.append(f"{what} is out: {_brief(trouble)}")
    for what, words in (
        ("retrying", "messages are tried again"),
        ("parked", "messages are put aside, and need you"),
        ("broken_scripts", "filters do not work, and are passed over"),
    ):
        if said.get(what):
            found.append(f"{len(said[what])} {words}: {_brief(next(iter(said[what].items())))}")
    for mailbox, shortage in (said.get("full") or {}).items():
        found.append(f"mailbox {mailbox} is full, and its mail waits: {_brief(shortage)}")
    for name, chore in (said.get("chores") or {}).items():
        # What is wrong with the certificate is said below, in its own words.
        if chore.get("error") and name != "certificate":
            found.append(f"{name} fails: {_brief(chore['error'])}")
    disk = said.get("disk") or {}
    if disk.get("total") and disk.get("free", 0) < LOW_DISK * disk["total"]:
        found.append(f"its disk has {disk['free'] / 1e9:.1f} of {disk['total'] / 1e9:.1f} GB left; make room")
    if problem := (said.get("certificate") or {}).get("problem"):
        found.append(f"its certificate: {_brief(problem)}")
    for name in ("suspicion", "ledger"):
        if said.get(name):
            found.append(_brief(said[name]))
    return found


def queue_status(sqs: Any, name: str) -> QueueStatus:
    """Ask for the depth of the queue *name*."""
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")

    def ask() -> QueueStatus:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))["Attributes"]
        return QueueStatus(name, int(found[names[0]]), int(found[names[1]]))

    return _guarded(ask, lambda problem: QueueStatus(name, None, None, problem))


def sending_status(s3: Any, config: Config, now: datetime) -> SendingStatus:
    """Count what is under ``state/sent/`` and ``state/feedback/``; names say the kind, so few are read."""

    def keys(prefix: str) -> list[str]:
        # The first name of the first day: everything of it sorts behind.
        first = f"{prefix}{now - timedelta(days=DAYS):%Y/%m/%d}/"
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=config.bucket, Prefix=prefix, StartAfter=first
        )
        return [one["Key"] for page in pages for one in page.get("Contents", ())]

    def ask() -> SendingStatus:
        feedback = keys(layout.FEEDBACK)
        names = [one.rpartition("/")[2] for one in feedback]

        def count(prefix: str) -> int:
            return sum(one.startswith(prefix) for one in names)

        return SendingStatus(
            sent=len(keys(layout.SENT)),
            bounces=count("bounce-permanent-"),
            soft_bounces=count("bounce-transient-"),
            complaints=count("complaint-"),
            rejects=count("reject-"),
            latest=_latest(s3, config, feedback),
        )

    return _guarded(ask, lambda problem: SendingStatus(problem=problem))


def _latest(s3: Any, config: Config, keys: list[str]) -> tuple[Mapping[str, Any], ...]:
    """The newest records; within a day names say nothing of the time, so that day is read as a whole."""
    days = sorted({one.rpartition("/")[0] for one in keys}, reverse=True)
    found: list[Feedback] = []
    for day in days:
        for key in [one for one in keys if one.startswith(f"{day}/")][:100]:
            body = s3.get_object(Bucket=config.bucket, Key=key)["Body"].read()
            found.append(Feedback.from_bytes(body))
        if len(found) >= SHOWN:
            break
    newest = sorted(found, key=lambda one: one.at, reverse=True)[:SHOWN]
    return tuple(
        {
            "at": one.at.isoformat(timespec="seconds"),
            "kind": one.kind,
            "permanent": one.permanent,
            "from": one.source,
            "to": [recipient.address for recipient in one.recipients],
            "why": next((recipient.diagnostic for recipient in one.recipients), "") or one.category,
        }
        for one in newest
    )


def _guarded(ask: Callable[[], _ANSWER], failed: Callable[[str], _ANSWER]) -> _ANSWER:
    try:
        return ask()
    except (BotoCoreError, ClientError, TwinmailError, OSError) as error:
        return failed(_brief(error))


def _problems(found: Status) -> tuple[str, ...]:
    lines = [f"{one.name}: {problem}" for one in found.servers for problem in one.problems]
    lines += [
        f"queue {one.name}: {one.problem}" for one in (*found.queues, found.dead_letters) if one.problem
    ]
    lines += [f"{one.name}: {one.problem}" for one in found.certificates if one.problem]
    if found.month_usd is not None and found.month_usd > found.budget_usd:
        lines.append(
            f"a month costs {found.month_usd:.2f} dollars, the budget is {found.budget_usd:.2f}; "
            "see ./inv cost --actual"
        )
    if found.dead_letters.waiting:
        lines.append(
            f"{found.dead_letters.waiting} events ended in {found.dead_letters.name}; see what they are: "
            "./inv dlq"
        )
    sending = found.sending
    if sending.problem:
        lines.append(f"sent mail: {sending.problem}")
    if sending.sent >= ENOUGH:
        for name, rate, limit in (
            ("bounce", sending.bounce_rate, BOUNCE_LIMIT),
            ("complaint", sending.complaint_rate, COMPLAINT_LIMIT),
        ):
            if rate > limit:
                lines.append(f"{name} rate {rate:.1%}: SES reviews accounts above {limit:.1%}")
    return tuple(lines)


def _brief(value: Any) -> str:
    return " ".join(str(value).split())[:200]
