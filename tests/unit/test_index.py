"""The items of the index: their keys, their order, and what they leave out."""

from datetime import UTC, datetime, timedelta, timezone

from tests.cloud import CONFIG
from twinmail.index import CLAIM, UNROUTED, items, position
from twinmail.manifest import Delivery, Entry
from twinmail.message import Metadata

ARRIVED = datetime(2026, 11, 22, 23, 59, 59, 123000, tzinfo=UTC)
ENTRY = Entry(
    ses_id="abc",
    key="processed/2026/11/22/abc.eml",
    size=7,
    sha256="0" * 64,
    arrived=ARRIVED,
    mail_from="a@example.com",
    rcpt_to=("ann@example.org", "bob@example.org"),
    deliveries=(Delivery("ann"), Delivery("bob", "Junk")),
    verdicts={"spam": "PASS"},
)


def test_each_mailbox_has_an_item_with_its_folder() -> None:
    ann, bob = items(ENTRY, ENTRY.deliveries, Metadata(subject="hello", attachments=("a.pdf",)), "")
    assert ann["mailbox"] == {"S": "ann"} and ann["folder"] == {"S": "INBOX"}
    assert bob["mailbox"] == {"S": "bob"} and bob["folder"] == {"S": "Junk"}
    assert ann["position"] == bob["position"] == {"S": "2026-11-22T23:59:59.123000Z#abc"}
    assert ann["attachments"] == {"L": [{"S": "a.pdf"}]} and ann["size"] == {"N": "7"}
    assert ann["verdicts"] == {"M": {"spam": {"S": "PASS"}}}


def test_empty_attributes_are_left_out() -> None:
    (item,) = items(ENTRY, (Delivery("ann"),), Metadata(), "")
    assert not {"subject", "from", "references", "attachments", "withheld", "rcpt_to"} & set(item)


def test_recipients_are_named_only_where_no_mailbox_reads_them() -> None:
    ann, unrouted = items(ENTRY, (Delivery("ann"), Delivery(UNROUTED)), Metadata(), "reason")
    assert "bob" not in str(ann)
    assert unrouted["rcpt_to"] == {"S": "ann@example.org, bob@example.org"}
    assert unrouted["withheld"] == {"S": "reason"}


def test_items_sort_by_arrival_whatever_the_time_zone() -> None:
    zone = timezone(timedelta(hours=2))
    assert position(ARRIVED, "a") == position(ARRIVED.astimezone(zone), "a")
    assert position(ARRIVED, "z") < position(ARRIVED + timedelta(microseconds=1), "a")


def test_no_mailbox_can_have_the_name_of_another_partition() -> None:
    assert UNROUTED.startswith("#")  # names of mailboxes hold letters, digits, '.', '_' and '-'
    assert all("#" not in name for name in CONFIG.mailboxes)
    assert CLAIM not in position(ARRIVED, "claim").partition("#")[0]
