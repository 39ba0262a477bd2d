"""The processor against moto, and the memory it needs for the largest message."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from tests.cloud import CONFIG
from tests.log_contract import LogContract, Store
from tests.moto_store import moto_store
from tests.report_contract import ReportContract
from twinmail.processor import CLAIM_LIFE, CLAIM_USE, trace_headers
from twinmail.ses_event import EventError, Receipt, receipts
from twinmail.sync.cursor import OVERLAP

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def store() -> Iterator[Store]:
    with moto_store() as found:
        yield found


class TestProcessor(LogContract):
    """The contract, with moto behind it."""


class TestReport(ReportContract):
    """The contract, with moto behind it."""


EVENT = {
    "ses": {
        "mail": {"timestamp": "2026-11-22T10:00:00.123Z", "source": "a@b.c", "messageId": "abc"},
        "receipt": {"recipients": ["ann@example.org"], "spamVerdict": {"status": "PASS"}},
    }
}


def test_event_is_read() -> None:
    (receipt,) = receipts({"Records": [EVENT]})
    assert receipt.ses_id == "abc" and receipt.verdicts == {"spam": "PASS"}
    assert receipt.arrived.isoformat() == "2026-11-22T10:00:00.123000+00:00"


@pytest.mark.parametrize(
    "event", [{}, {"Records": []}, {"Records": [{}]}, {"Records": [{"ses": {"mail": {}}}]}]
)
def test_other_events_are_refused(event: dict[str, object]) -> None:
    with pytest.raises(EventError):
        receipts(event)


def test_verdict_cannot_break_out_of_the_trace_headers() -> None:
    receipt = Receipt.of_record(EVENT)
    hostile = Receipt(receipt.ses_id, receipt.arrived, "", (), {"spam": "PASS\r\nBcc: x@y\r\n\r\n"})
    assert trace_headers(CONFIG, hostile).count(b"\r\n") == 3


def test_message_that_begins_with_a_continuation_cannot_add_a_verdict() -> None:
    lines = trace_headers(CONFIG, Receipt.of_record(EVENT)).splitlines()
    assert lines[0] == b"X-Twinmail-Verdicts: spam=PASS"
    assert lines[1].startswith(b"Received: ") and lines[2].startswith(b"\tid abc; Sun, 22 Nov 2026 10:00:00")


def test_every_message_of_the_corpus_is_stored_to_the_octet(store: Store) -> None:
    for path in sorted((PROJECT / "tests" / "messages").glob("*.eml")):
        raw = path.read_bytes()
        receipt = store.receive(raw)
        outcome = store.processor().process(receipt)
        assert outcome.entry is not None, path.name
        assert store.body(outcome.entry.key) == trace_headers(CONFIG, receipt) + raw, path.name
        assert len(store.items("ann", receipt)) == 1, path.name


def test_claim_ages_fit_the_function_and_what_the_servers_look_back() -> None:
    template = yaml.safe_load((PROJECT / "lambda" / "stack.yaml").read_text())
    function = timedelta(seconds=template["Resources"]["Function"]["Properties"]["Timeout"])
    assert CLAIM_USE + function < CLAIM_LIFE
    assert CLAIM_USE + function < OVERLAP


# Lambda's 256 MB hold the interpreter and boto3 too; a 40 MB message must not add a multiple of itself.
MEMORY = """
import resource, sys
from datetime import UTC, datetime
sys.path[:0] = sys.argv[1:]
from tests.cloud import CONFIG
from twinmail.index import Index
from twinmail.processor import Processor
from twinmail.ses_event import Receipt

class Body:
    def iter_chunks(self, size):
        for _ in range(40):
            yield b"x" * (1 << 20)

class S3:
    class exceptions:
        class NoSuchKey(Exception): pass
    def get_object(self, **_): return {"Body": Body()}
    def put_object(self, Body, **_):
        while hasattr(Body, "read") and Body.read(1 << 20): pass

class Table:
    def get_item(self, **_): return {}
    def put_item(self, **_): return {}

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Processor(CONFIG, S3(), Index(Table(), "t")).process(
    Receipt("abc", datetime.now(UTC), "", ("ann@example.org",), {}))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_message() -> None:
    argv = [sys.executable, "-c", MEMORY, str(PROJECT), str(PROJECT / "src")]
    result = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert int(result.stdout) < 30, f"{result.stdout.strip()} MB more for a message of 40 MB"
