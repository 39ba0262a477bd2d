"""What S3 and DynamoDB must do for the processor: one contract, for moto and for LocalStack."""

import hashlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from twinmail import layout
from twinmail.config import Config
from twinmail.index import UNROUTED, Index
from twinmail.manifest import Delivery, Entry
from twinmail.processor import CLAIM_LIFE, CLAIM_USE, STEPS, ClaimBusy, MessageMissing, Processor
from twinmail.ses_event import Receipt

ARRIVED = datetime(2026, 11, 22, 23, 59, 59, 123000, tzinfo=UTC)
RAW = b"Return-Path: <a@example.com>\r\nFrom: a@example.com\r\nSubject: hello\r\n\r\nbody\n.\r\n\xff\0"


class Crash(Exception):
    """The attempt dies here."""


@dataclass
class Store:
    """A bucket and a table, with the clients to look into them."""

    config: Config
    s3: Any
    dynamodb: Any

    def receive(self, raw: bytes = RAW, **changes: Any) -> Receipt:
        """Put a message into ``incoming/`` as SES does."""
        receipt = Receipt(
            ses_id=uuid.uuid4().hex,
            arrived=ARRIVED,
            mail_from="a@example.com",
            recipients=("ann@example.org",),
            verdicts={"spam": "PASS", "virus": "PASS"},
        )
        receipt = replace(receipt, **changes)
        self.s3.put_object(Bucket=self.config.bucket, Key=layout.incoming_key(receipt.ses_id), Body=raw)
        return receipt

    def processor(self, **options: Any) -> Processor:
        return Processor(self.config, self.s3, Index(self.dynamodb, self.config.table), **options)

    def entries(self, receipt: Receipt) -> list[Entry]:
        keys = [key for key in self.keys("manifest/") if receipt.ses_id in key]
        return [Entry.from_bytes(self.body(key)) for key in keys]

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.config.bucket, Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]

    def body(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.config.bucket, Key=key)["Body"].read()
        return body

    def items(self, mailbox: str, receipt: Receipt) -> list[dict[str, Any]]:
        answer = self.dynamodb.query(
            TableName=self.config.table,
            KeyConditionExpression="mailbox = :m",
            FilterExpression="ses_id = :s",
            ExpressionAttributeValues={":m": {"S": mailbox}, ":s": {"S": receipt.ses_id}},
        )
        items: list[dict[str, Any]] = answer["Items"]
        return items


def crash_at(step: str) -> Callable[[str], None]:
    def checkpoint(reached: str) -> None:
        if reached == step:
            raise Crash(step)

    return checkpoint


class LogContract:
    """Subclasses provide the fixture ``store``."""

    def test_message_is_complete_when_its_entry_is_there(self, store: Store) -> None:
        receipt = store.receive(recipients=("ann@example.org", "bob+x@example.org"))
        outcome = store.processor().process(receipt)
        (entry,) = store.entries(receipt)
        assert entry == outcome.entry
        assert entry.deliveries == (Delivery("ann"), Delivery("bob"))
        body = store.body(entry.key)
        assert body.endswith(RAW)
        assert len(body) == entry.size and hashlib.sha256(body).hexdigest() == entry.sha256
        assert entry.key == f"processed/2026/11/22/{receipt.ses_id}.eml"
        for mailbox in ("ann", "bob"):
            (item,) = store.items(mailbox, receipt)
            assert item["subject"] == {"S": "hello"}
            assert "x@example.org" not in str(item), "an item for a mailbox names another recipient"

    def test_object_of_a_message_has_its_entry_too_and_the_listing_tells_the_digest(
        self, store: Store
    ) -> None:
        receipt = store.receive(mail_from="\u00e4@example.com")
        manifest_key = store.processor().process(receipt).manifest_key
        (listed,) = store.s3.list_objects_v2(Bucket=store.config.bucket, Prefix=manifest_key)["Contents"]
        key = store.entries(receipt)[0].key
        told = store.s3.head_object(Bucket=store.config.bucket, Key=key)["Metadata"]
        assert told == {"entry": store.body(manifest_key).decode()}
        assert listed["ETag"] == f'"{hashlib.md5(told["entry"].encode()).hexdigest()}"'

    def test_entry_that_is_too_large_for_metadata_is_in_the_manifest_alone(self, store: Store) -> None:
        receipt = store.receive(recipients=tuple(f"ann+{n:03}@example.org" for n in range(100)))
        store.processor().process(receipt)
        (entry,) = store.entries(receipt)
        assert store.s3.head_object(Bucket=store.config.bucket, Key=entry.key)["Metadata"] == {}

    def test_trace_headers_name_no_recipient(self, store: Store) -> None:
        receipt = store.receive(recipients=("ann@example.org", "secret-bcc@example.net"))
        store.processor().process(receipt)
        body = store.body(store.entries(receipt)[0].key)
        assert b"secret-bcc" not in body and b"ann@" not in body

    def test_repeated_event_changes_nothing(self, store: Store) -> None:
        receipt = store.receive()
        first = store.processor().process(receipt)
        again = store.processor(now=lambda: datetime.now(UTC) + timedelta(days=1)).process(receipt)
        assert again.entry is None and again.manifest_key == first.manifest_key
        assert len(store.entries(receipt)) == 1
        assert len(store.items("ann", receipt)) == 1

    @pytest.mark.parametrize("step", STEPS)
    def test_retry_after_a_crash_between_any_two_writes(self, store: Store, step: str) -> None:
        receipt = store.receive()
        with pytest.raises(Crash):
            store.processor(checkpoint=crash_at(step)).process(receipt)
        assert bool(store.entries(receipt)) == (step == "committed")
        store.processor().process(receipt)
        (entry,) = store.entries(receipt)
        assert hashlib.sha256(store.body(entry.key)).hexdigest() == entry.sha256
        assert len(store.items("ann", receipt)) == 1

    def test_late_retry_commits_under_a_time_near_its_own(self, store: Store) -> None:
        receipt = store.receive()
        early = datetime.now(UTC) - CLAIM_LIFE - timedelta(hours=5)
        with pytest.raises(Crash):
            store.processor(now=lambda: early, checkpoint=crash_at("claimed")).process(receipt)
        outcome = store.processor().process(receipt)
        committed = layout.ManifestKey.parse(outcome.manifest_key).committed
        assert datetime.now(UTC) - committed < timedelta(minutes=1)
        assert len(store.entries(receipt)) == 1

    def test_claim_between_use_and_renewal_is_left_alone(self, store: Store) -> None:
        receipt = store.receive()
        claimed = datetime.now(UTC)
        with pytest.raises(Crash):
            store.processor(now=lambda: claimed, checkpoint=crash_at("claimed")).process(receipt)
        for age in (CLAIM_USE + timedelta(seconds=1), CLAIM_LIFE):
            with pytest.raises(ClaimBusy):
                store.processor(now=lambda age=age: claimed + age).process(receipt)
        assert not store.entries(receipt)
        outcome = store.processor(now=lambda: claimed + CLAIM_USE).process(receipt)
        assert layout.ManifestKey.parse(outcome.manifest_key).committed == claimed
        assert len(store.entries(receipt)) == 1

    def test_two_attempts_that_renew_a_claim_make_one_entry(self, store: Store) -> None:
        receipt = store.receive()
        late = datetime.now(UTC) + CLAIM_LIFE
        with pytest.raises(Crash):
            store.processor(checkpoint=crash_at("claimed")).process(receipt)
        barrier = threading.Barrier(2)

        def meet(step: str) -> None:
            if step == "processed":
                barrier.wait(30)

        threads = [
            threading.Thread(
                target=store.processor(
                    checkpoint=meet, now=lambda number=number: late + timedelta(seconds=number + 1)
                ).process,
                args=(receipt,),
            )
            for number in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(store.entries(receipt)) == 1

    def test_concurrent_duplicates_make_one_entry(self, store: Store) -> None:
        receipt = store.receive()
        barrier = threading.Barrier(4)

        def meet(step: str) -> None:
            if step == "processed":
                barrier.wait(30)

        threads = [
            threading.Thread(target=store.processor(checkpoint=meet).process, args=(receipt,))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(store.entries(receipt)) == 1
        assert len(store.items("ann", receipt)) == 1

    def test_spam_goes_to_junk(self, store: Store) -> None:
        receipt = store.receive(verdicts={"spam": "FAIL", "virus": "PASS"})
        store.processor().process(receipt)
        assert store.entries(receipt)[0].deliveries == (Delivery("ann", "Junk"),)

    def test_virus_is_quarantined_indexed_and_delivered_to_nobody(self, store: Store) -> None:
        receipt = store.receive(verdicts={"spam": "PASS", "virus": "FAIL"})
        store.processor().process(receipt)
        (entry,) = store.entries(receipt)
        assert entry.deliveries == () and entry.key.startswith("quarantine/")
        assert store.body(entry.key).endswith(RAW)
        assert store.items("ann", receipt)[0]["withheld"] == {"S": "virus verdict"}
        assert f"processed/2026/11/22/{receipt.ses_id}.eml" not in store.keys("processed/")

    def test_message_for_nobody_is_kept_and_indexed(self, store: Store) -> None:
        receipt = store.receive(recipients=("nobody@example.org",))
        outcome = store.processor().process(receipt)
        assert outcome.unknown == ("nobody@example.org",)
        assert store.entries(receipt)[0].deliveries == ()
        (item,) = store.items(UNROUTED, receipt)
        assert item["rcpt_to"] == {"S": "nobody@example.org"}

    def test_missing_message_is_tried_again(self, store: Store) -> None:
        receipt = replace(store.receive(), ses_id="0" * 40)
        with pytest.raises(MessageMissing):
            store.processor().process(receipt)
        assert not store.entries(receipt)

    def test_found_by_its_ses_id(self, store: Store) -> None:
        receipt = store.receive()
        store.processor().process(receipt)
        answer = store.dynamodb.query(
            TableName=store.config.table,
            IndexName="ses-id",
            KeyConditionExpression="ses_id = :s",
            ExpressionAttributeValues={":s": {"S": receipt.ses_id}},
        )
        assert [one["mailbox"]["S"] for one in answer["Items"]] == ["ann"]
