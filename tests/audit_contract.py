"""What the audit must find and mend: one contract, for moto and for LocalStack."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.log_contract import RAW, Crash, Store, crash_at
from tests.reconciler_contract import fields_of_ses
from twinmail import layout
from twinmail.audit import packs
from twinmail.audit.auditor import Auditor, NotRepaired
from twinmail.audit.finding import Finding, Kind
from twinmail.audit.tally import Tally
from twinmail.importing import logged
from twinmail.importing.canonical import PREFIX
from twinmail.lookup.witnesses import Witnesses
from twinmail.manifest import Delivery
from twinmail.packs.archive import Archive
from twinmail.packs.compactor import Compactor
from twinmail.ses_event import Receipt

SOON = timedelta(hours=1)


def audit(store: Store, since: datetime | None = None, **options: Any) -> list[Finding]:
    """What an audit finds in an hour, when nothing that is there now is young any more."""
    auditor = Auditor(store.processor(now=lambda: datetime.now(UTC) + SOON, **options))
    with Tally() as tally:
        return list(auditor.findings(tally, since))


def repair(store: Store, finding: Finding) -> None:
    Auditor(store.processor()).repair(finding)


def pack(store: Store) -> None:
    """Have the compactor pack all that is there."""
    done = Compactor(store.config, store.s3, datetime.now(UTC) + timedelta(days=100)).run()
    assert done.packs == 1 and not done.broken


def of(store: Store, receipt: Receipt) -> list[Finding]:
    return [one for one in audit(store) if one.ses_id == receipt.ses_id]


def processed(store: Store, **changes: Any) -> Receipt:
    receipt = store.receive(**changes)
    store.processor().process(receipt)
    return receipt


def delete(store: Store, key: str) -> None:
    store.s3.delete_object(Bucket=store.config.bucket, Key=key)


def delete_item(store: Store, mailbox: str, position: str) -> None:
    key = {"mailbox": {"S": mailbox}, "position": {"S": position}}
    store.dynamodb.delete_item(TableName=store.config.table, Key=key)


class AuditContract:
    """Subclasses provide the fixture ``store``."""

    @pytest.fixture(autouse=True)
    def nothing_else(self, store: Store) -> Iterator[None]:
        """What other tests left behind is no finding of these."""
        for prefix in ("incoming/", "processed/", "quarantine/", "manifest/", layout.PACKS):
            for key in store.keys(prefix):
                delete(store, key)
        for page in store.dynamodb.get_paginator("scan").paginate(TableName=store.config.table):
            for item in page["Items"]:
                delete_item(store, item["mailbox"]["S"], item["position"]["S"])
        yield

    def test_complete_messages_are_no_findings(self, store: Store) -> None:
        processed(store, recipients=("ann@example.org", "bob@example.org"))
        processed(store, verdicts={"virus": "FAIL"})
        processed(store, recipients=("nobody@example.org",))
        processor = store.processor()
        processor.add("notice-1", datetime.now(UTC), "ann@example.org", ["ann"], RAW)
        processor.add_imported("imported1", datetime(2001, 1, 1, tzinfo=UTC), Delivery("ann", "Old"), RAW)
        store.processor(read=lambda start: 1 / 0).process(store.receive())  # type: ignore[arg-type, return-value]
        store.s3.put_object(
            Bucket=store.config.bucket, Key=layout.incoming_key(layout.SETUP_NOTIFICATION), Body=b"x"
        )
        for since in (None, datetime.now(UTC) - timedelta(days=1)):
            assert audit(store, since) == []

    def test_message_that_was_never_processed(self, store: Store) -> None:
        receipt = store.receive(fields_of_ses("x", "") + b"To: ann@example.org\r\n" + RAW)
        (finding,) = of(store, receipt)
        assert finding.kind is Kind.NOT_LOGGED
        repair(store, finding)
        assert store.entries(receipt)[0].deliveries == (Delivery("ann"),)
        assert of(store, receipt) == []

    @pytest.mark.parametrize("step", ["processed", "claimed", "indexed"])
    def test_message_whose_function_died(self, store: Store, step: str) -> None:
        receipt = store.receive(b"To: bob@example.org\r\n\r\n")
        with pytest.raises(Crash):
            store.processor(checkpoint=crash_at(step)).process(receipt)
        (finding,) = of(store, receipt)
        assert finding.kind is Kind.NOT_LOGGED and "processed" in finding.detail
        repair(store, finding)
        repair(store, finding)
        assert len(store.entries(receipt)) == 1 and of(store, receipt) == []

    @pytest.mark.parametrize("folder", ["processed/", "quarantine/"])
    def test_entry_whose_message_is_gone(self, store: Store, folder: str) -> None:
        virus = "FAIL" if folder == "quarantine/" else "PASS"
        receipt = processed(store, verdicts={"virus": virus, "spam": "PASS"})
        (entry,) = store.entries(receipt)
        before = store.body(entry.key)
        delete(store, entry.key)
        (finding,) = of(store, receipt)
        assert finding.kind is Kind.NO_MESSAGE
        repair(store, finding)
        assert store.body(entry.key) == before and of(store, receipt) == []

    def test_entry_whose_message_is_gone_for_ever(self, store: Store) -> None:
        receipt = processed(store)
        (entry,) = store.entries(receipt)
        delete(store, entry.key)
        store.s3.put_object(
            Bucket=store.config.bucket, Key=layout.incoming_key(receipt.ses_id), Body=b"another"
        )
        (finding,) = of(store, receipt)
        with pytest.raises(NotRepaired, match="expected sha256"):
            repair(store, finding)
        delete(store, layout.incoming_key(receipt.ses_id))
        with pytest.raises(NotRepaired, match="is not there either"):
            repair(store, finding)
        assert entry.key not in store.keys("processed/")

    @pytest.mark.parametrize("whom", ["ann@example.org", "nobody@example.org"])
    def test_table_that_was_lost(self, store: Store, whom: str) -> None:
        receipt = processed(store, recipients=(whom,))
        pages = store.dynamodb.get_paginator("scan").paginate(TableName=store.config.table)
        before = sorted((one for page in pages for one in page["Items"]), key=str)
        for item in before:
            delete_item(store, item["mailbox"]["S"], item["position"]["S"])
        found = of(store, receipt)
        assert [one.kind for one in found] == [Kind.NOT_CLAIMED, Kind.NOT_INDEXED]
        for one in found:
            repair(store, one)
        after = store.dynamodb.scan(TableName=store.config.table)["Items"]
        assert sorted(after, key=str) == before
        assert of(store, receipt) == []

    def test_message_with_two_entries(self, store: Store) -> None:
        receipt = processed(store)
        (entry,) = store.entries(receipt)
        second = layout.manifest_key(receipt.ses_id, datetime.now(UTC) + SOON)
        store.s3.put_object(Bucket=store.config.bucket, Key=second, Body=entry.to_bytes())
        (finding,) = of(store, receipt)
        assert finding.kind is Kind.TWO_ENTRIES and receipt.ses_id in finding.remedy
        with pytest.raises(NotRepaired):
            repair(store, finding)

    def test_entry_that_is_damaged(self, store: Store) -> None:
        receipt = processed(store)
        (key,) = [one for one in store.keys("manifest/") if receipt.ses_id in one]
        store.s3.put_object(Bucket=store.config.bucket, Key=key, Body=b"{")
        delete_item(store, f"ses#{receipt.ses_id}", "claim")
        (finding,) = of(store, receipt)
        assert finding.kind is Kind.DAMAGED and "not JSON" in finding.detail

    def test_claim_and_items_without_anything_else(self, store: Store) -> None:
        receipt = processed(store)
        for prefix in ("incoming/", "processed/", "manifest/"):
            for key in store.keys(prefix):
                delete(store, key)
        (finding,) = audit(store)
        assert finding.kind is Kind.LEFT_OVER and finding.detail == "only: claimed, indexed"
        assert finding.ses_id == receipt.ses_id and not finding.repairable

    def test_what_only_packs_have_is_no_finding(self, store: Store) -> None:
        receipts = [processed(store, verdicts={"virus": virus, "spam": "PASS"}) for virus in ("PASS", "FAIL")]
        pack(store)
        assert audit(store) == [], "in a pack and by itself is one entry"
        archive = Archive(store.s3, store.config.bucket)
        (index,) = archive.indexes()
        assert logged.imported(store.s3, store.config.bucket) == set()
        for prefix in ("processed/", "quarantine/", "manifest/"):
            for key in store.keys(prefix):
                delete(store, key)
        for since in (None, datetime.now(UTC) - timedelta(days=1)):
            assert audit(store, since) == []
        delete_item(store, f"ses#{receipts[0].ses_id}", "claim")
        pages = store.dynamodb.get_paginator("scan").paginate(TableName=store.config.table)
        for item in [one for page in pages for one in page["Items"]]:
            delete_item(store, item["mailbox"]["S"], item["position"]["S"])
        found = audit(store)
        assert {one.kind for one in found} == {Kind.NOT_CLAIMED, Kind.NOT_INDEXED}
        for one in found:
            repair(store, one)
        assert audit(store) == []
        shown = Witnesses(store.config, lambda name: store.dynamodb if name == "dynamodb" else store.s3, {})
        trail = shown.trail(receipts[0].ses_id)
        assert trail.entry and trail.stored == trail.entry.size
        assert any(index.key in one.what for one in trail.events)
        delete(store, layout.incoming_key(receipts[0].ses_id))
        octets = b"".join(shown.raw(receipts[0].ses_id))
        assert hashlib.sha256(octets).hexdigest() == trail.entry.sha256

    def test_imported_message_that_only_a_pack_has_is_not_imported_again(self, store: Store) -> None:
        name = f"{PREFIX}{'a' * 40}"
        store.processor().add_imported(name, datetime(2001, 1, 1, tzinfo=UTC), Delivery("ann", "Old"), RAW)
        (key,) = store.keys("processed/")
        pack(store)
        for prefix in ("processed/", "manifest/"):
            for one in store.keys(prefix):
                delete(store, one)
        assert logged.imported(store.s3, store.config.bucket) == {name}
        received = logged.Received(store.s3, store.config.bucket, {"<x>": (key,)})
        assert received.has(RAW) is False and received._read(key) == RAW

    def test_broken_packs(self, store: Store) -> None:
        processed(store)
        pack(store)
        archive = Archive(store.s3, store.config.bucket)
        (index,) = archive.indexes()
        bucket = store.config.bucket

        def found(every_octet: bool = True) -> list[str]:
            told = list(packs.findings(archive, None, every_octet, lambda text: None))
            assert {one.kind for one in told} <= {Kind.BROKEN_PACK} and not any(
                one.repairable for one in told
            )
            return [one.detail for one in told]

        octets = store.body(index.key)
        assert found() == []
        store.s3.put_object(Bucket=bucket, Key=index.key, Body=octets[:-1] + b"?")
        assert found(every_octet=False) == []
        message = index.entries[0].message.key
        assert f"{message}: expected sha256" in found()[0] and len(found()) == 2
        store.s3.put_object(Bucket=bucket, Key=index.key, Body=octets[:-1])
        (told,) = found()
        assert told.startswith(f"{index.key}: expected {len(octets)} octets")
        delete(store, index.key)
        assert len(found()) == 1
        store.s3.put_object(Bucket=bucket, Key=index.index_key, Body=b"{")
        (told,) = found()
        assert told.startswith(f"{index.index_key}: ")

    def test_message_that_is_on_its_way_is_no_finding(self, store: Store) -> None:
        store.receive()
        auditor = Auditor(store.processor())
        with Tally() as tally:
            assert list(auditor.findings(tally, None)) == []

    def test_message_that_comes_into_the_log_during_the_audit_is_no_finding(self, store: Store) -> None:
        receipt = store.receive()
        auditor = Auditor(store.processor(now=lambda: datetime.now(UTC) + SOON))
        heard: list[str] = []

        def say(text: str) -> None:
            heard.append(text)
            if text.endswith("items of the index"):
                store.processor().process(receipt)

        with Tally() as tally:
            assert list(auditor.findings(tally, None, say)) == []
        assert heard[0] == "1 stored"
