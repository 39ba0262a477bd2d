"""Finding messages: what is asked of the index, what matches, and what is concluded of one message."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.cloud import CONFIG
from twinmail.index import UNROUTED, Index
from twinmail.lookup import hits
from twinmail.lookup.criteria import Criteria
from twinmail.lookup.trail import Event, Trail, conclusion
from twinmail.manifest import Delivery, Entry
from twinmail.message import Metadata
from twinmail.period import Period, PeriodError
from twinmail.tasks.search import printable

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def entry(ses_id: str, arrived: datetime, *mailboxes: str) -> Entry:
    return Entry(
        ses_id=ses_id,
        key=f"processed/2026/11/23/{ses_id}.eml",
        size=7,
        sha256="0" * 64,
        arrived=arrived,
        mail_from="a@example.com",
        rcpt_to=("ann@example.org",),
        deliveries=tuple(map(Delivery, mailboxes)),
        verdicts={"spam": "PASS"},
    )


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb", CONFIG.region)
        keys = {"mailbox": "HASH", "position": "RANGE"}
        client.create_table(
            TableName=CONFIG.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
        )
        yield client


def add(dynamodb: Any, one: Entry, metadata: Metadata | None = None, withheld: str = "") -> None:
    placements = one.deliveries or (Delivery(UNROUTED),)
    Index(dynamodb, CONFIG.table).add(one, placements, metadata or Metadata(), withheld)


def found(dynamodb: Any, mailbox: str = "", **criteria: Any) -> list[hits.Hit]:
    return list(hits.search(dynamodb, CONFIG, mailbox, Period(), Criteria(**criteria)))


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("", "", Period()),
        ("2026-11-23", "", Period(datetime(2026, 11, 23, tzinfo=UTC))),
        ("", "2026-11-23", Period(None, datetime(2026, 11, 24, tzinfo=UTC))),
        (
            "2026-11-23",
            "2026-11-23",
            Period(datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)),
        ),
        ("2026-11-23T10:00+02:00", "", Period(datetime(2026, 11, 23, 8, tzinfo=UTC))),
        ("2026-11-23T10:00", "1h", Period(datetime(2026, 11, 23, 10, tzinfo=UTC), NOW - timedelta(hours=1))),
        ("4w", "", Period(NOW - timedelta(days=28))),
    ],
)
def test_a_period_is_read_as_a_person_writes_it(since: str, until: str, expected: Period) -> None:
    assert Period.parse(since, until, NOW) == expected


@pytest.mark.parametrize(
    ("since", "until", "named"),
    [
        ("yesterday", "", "--since yesterday"),
        ("", "2026-13-01", "--until 2026-13-01"),
        ("999999w", "", "--since 999999w"),
        ("2026-11-24", "2026-11-23", "after --since"),
        ("", "9999-12-31", "--until 9999-12-31"),
    ],
)
def test_what_is_no_period_is_refused_with_the_forms(since: str, until: str, named: str) -> None:
    with pytest.raises(PeriodError, match=named):
        Period.parse(since, until, NOW)


def test_a_period_has_its_start_and_not_its_end() -> None:
    period = Period(NOW, NOW + timedelta(hours=1))
    assert (
        NOW in period and NOW + timedelta(hours=1) not in period and NOW - timedelta.resolution not in period
    )
    assert NOW in Period()


def test_messages_of_all_mailboxes_come_as_one_stream_the_newest_first(dynamodb: Any) -> None:
    for number in range(7):
        add(dynamodb, entry(f"id{number}", NOW + timedelta(minutes=number), ("ann", "bob")[number % 2]))
    add(dynamodb, entry("both", NOW + timedelta(minutes=3, seconds=1), "ann", "bob"))
    add(dynamodb, entry("nobody", NOW + timedelta(minutes=4, seconds=1)), withheld="virus verdict")
    every = found(dynamodb)
    assert [one.ses_id for one in every] == [
        "id6",
        "id5",
        "nobody",
        "id4",
        "both",
        "id3",
        "id2",
        "id1",
        "id0",
    ]
    assert every[4].mailboxes == {"ann": "INBOX", "bob": "INBOX"}
    assert every[2].mailboxes == {} and every[2].withheld == "virus verdict"
    assert [one.ses_id for one in found(dynamodb, "bob")] == ["id5", "both", "id3", "id1"]


def test_a_period_is_asked_of_dynamodb_not_filtered_here(dynamodb: Any) -> None:
    for number in range(5):
        add(dynamodb, entry(f"id{number}", NOW + timedelta(minutes=number), "ann"))
    minute = timedelta(minutes=1)
    for period, expected in (
        (Period(NOW + 2 * minute), {"id2", "id3", "id4"}),
        (Period(None, NOW + 2 * minute), {"id0", "id1"}),
        (Period(NOW + minute, NOW + 3 * minute), {"id1", "id2"}),
    ):
        assert {text["ses_id"]["S"] for text in hits.items(dynamodb, CONFIG.table, "ann", period)} == expected


def test_pages_are_asked_for_only_when_they_are_needed(dynamodb: Any) -> None:
    big = Metadata(subject="x" * 2000, references=("r" * 2000,) * 100)
    for number in range(12):
        add(dynamodb, entry(f"id{number:02}", NOW + timedelta(minutes=number), "ann"), big)
    asked: list[str] = []
    dynamodb.meta.events.register("before-call.dynamodb.Query", lambda **_: asked.append("query"))
    stream = hits.search(dynamodb, CONFIG, "ann", Period(), Criteria())
    assert next(stream).ses_id == "id11" and len(asked) == 1
    assert len(list(stream)) == 11 and len(asked) > 1


@pytest.mark.parametrize(
    ("criteria", "matches"),
    [
        ({"sender": "JANE"}, True),
        ({"sender": "a@EXAMPLE.com"}, True),  # of the envelope
        ({"sender": "john"}, False),
        ({"subject": "straße 5"}, True),
        ({"subject": "STRASSE"}, True),
        ({"subject": "grüße"}, True),  # composed otherwise in the message
        ({"recipient": "ann@"}, True),
        ({"message_id": "m1@example.com"}, True),
        ({"message_id": "m@example.com"}, False),
        ({"attachment": True}, True),
        ({"sender": "jane", "subject": "nothing of it"}, False),
    ],
)
def test_texts_are_compared_as_people_do(dynamodb: Any, criteria: dict[str, Any], matches: bool) -> None:
    metadata = Metadata(
        sender="Jane <jane@example.com>",
        recipients="Ann <ann@example.org>",
        subject="Straße  5: Gru\u0308ße",
        message_id="<m1@example.com>",
        attachments=("a.pdf",),
    )
    add(dynamodb, entry("one", NOW, "ann"), metadata)
    assert bool(found(dynamodb, **criteria)) is matches


def test_a_message_without_attachment_is_not_found_by_one(dynamodb: Any) -> None:
    add(dynamodb, entry("one", NOW, "ann"))
    assert not found(dynamodb, attachment=True)


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    assert printable("a\x1b[2Jb\u202ec") == "a\ufffd[2Jb\ufffdc"


HERE = {"entries": {"k": None}, "waiting": [], "retrying": {}}
INBOX = {"mailbox": "ann", "folder": "INBOX", "at": None, "now": [{"folder": "INBOX", "flags": "S"}]}
WHOLE = Trail(
    "id",
    received=5,
    stored=7,
    manifest_key="k",
    entry=entry("id", NOW, "ann"),
    servers={"primary": {**HERE, "deliveries": [INBOX]}},
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "primary has it"),
        ({"servers": {"primary": None}}, "primary does not answer"),
        ({"servers": {"primary": {**HERE, "deliveries": [{**INBOX, "now": []}]}}}, "a user deleted it"),
        ({"servers": {"primary": {**HERE, "deliveries": []}}}, "not delivered it to ann yet"),
        ({"servers": {"primary": {**HERE, "waiting": ["ann"], "deliveries": []}}}, "no room for it in ann"),
        ({"servers": {"primary": {**HERE, "entries": {"k": "bad"}, "deliveries": []}}}, "put it aside: bad"),
        (
            {"servers": {"primary": {**HERE, "retrying": {"k": "slow"}, "deliveries": []}}},
            "tries it again: slow",
        ),
        ({"stored": None}, "not in the bucket any more"),
        ({"entry": entry("id", NOW)}, "nobody gets it"),
        ({"entry": None}, "SES has stored it, but it is not in the log"),
        ({"entry": None, "received": None, "servers": {}}, "no part of the system knows it"),
        (
            {"entry": None, "received": None, "sent": True, "events": (Event(NOW, "SES", "sent from <a>"),)},
            "no bounce",
        ),
        (
            {
                "entry": None,
                "sent": True,
                "events": (
                    Event(NOW, "SES", "sent from <a>"),
                    Event(NOW, "SES", "bounce of b: no such user"),
                ),
            },
            "bounce of b: no such user",
        ),
    ],
)
def test_the_conclusion_says_where_it_is_or_what_it_waits_for(changes: dict[str, Any], said: str) -> None:
    assert said in conclusion(replace(WHOLE, **changes))


def test_the_story_is_in_order_and_what_has_no_time_is_last() -> None:
    late, early, unknown = (
        Event(NOW, "log", "b"),
        Event(NOW - timedelta(1), "SES", "a"),
        Event(None, "index", "c"),
    )
    assert replace(WHOLE, events=(late, unknown, early)).story == [early, late, unknown]
