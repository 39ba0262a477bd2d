"""The audit against moto, and the memory it needs for a million messages."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit_contract import AuditContract
from tests.log_contract import Store
from tests.moto_store import moto_store

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def store() -> Iterator[Store]:
    with moto_store() as found:
        yield found


class TestAudit(AuditContract):
    """The contract, with moto behind it."""


# A million messages as S3, DynamoDB and two servers tell of them, a part at a time; a few of them differ.
MILLION = """
import json, resource, sys, tempfile
from datetime import UTC, datetime
sys.path[:0] = sys.argv[1:]
from tests.cloud import CONFIG
from twinmail.audit.auditor import Auditor
from twinmail.audit.servers import Servers
from twinmail.audit.tally import Tally
from twinmail.basename import derived
from twinmail.index import Index
from twinmail.manifest import Delivery, Entry
from twinmail.processor import Processor

COUNT = 1_000_000
OLD = datetime(2026, 1, 1, tzinfo=UTC)

def ses_id(number):
    # Every number once, in no order.
    return f"{number * 7_368_787 % COUNT:040}"

def key(number):
    return f"manifest/2026/01/01/{number // 60_000 % 24:02}{number // 1000 % 60:02}00.{number:06}Z-{ses_id(number)}.json"

LOST, GONE, BARE = 17, 4711, 999_999
AWAY, UNKNOWN = 500_000, 600_000

class Server:
    # Says that it has all but one message, and that its ledger does not know another one.
    def __init__(self):
        self.file = tempfile.TemporaryFile("w+")
        self.file.write("twinmail deliveries 1\\n")
        for number in range(COUNT):
            if number not in (LOST, AWAY):
                name = f"1767225600.{derived.__wrapped__(ses_id(number))}.twinmail"
                self.file.write(f"F\\tann\\t{name}\\t0\\t1000\\t1000\\t\\n")
                if number != UNKNOWN:
                    self.file.write(f"L\\tann\\t{name}\\n")
        self.file.write(f".\\t{2 * COUNT - 5}\\n")
    def lines(self, path):
        self.file.seek(0)
        yield from iter(self.file.buffer.readline, b"")

class Error(Exception):
    response = {"Error": {"Code": "404"}}

class Body:
    def read(self):
        entry = Entry(ses_id(GONE), "processed/gone.eml", 1, "0" * 64, OLD, "", (), (Delivery("ann"),))
        return entry.to_bytes()

class Service:
    class exceptions:
        ClientError = Error
    def __init__(self, pages=None):
        self.paginate = pages
    def get_paginator(self, name):
        return Service(self.listing if name == "list_objects_v2" else self.scanned)
    def listing(self, Prefix, **_):
        if Prefix == "quarantine/":
            return
        for start in range(0, COUNT, 1000):
            yield {"Contents": [
                {"Key": one, "LastModified": OLD}
                for number in range(start, start + 1000)
                if (one := self.name(Prefix, number))
            ]}
    def name(self, prefix, number):
        if prefix == "incoming/":
            return f"incoming/{ses_id(number)}"
        if prefix == "processed/":
            return f"processed/2026/01/01/{ses_id(number)}.eml" if number not in (LOST, GONE) else ""
        return key(number) if number != LOST else ""
    def scanned(self, **_):
        for start in range(0, COUNT, 1000):
            items = []
            for number in range(start, start + 1000):
                if number not in (LOST, BARE):
                    items.append({"mailbox": {"S": "ann"}, "ses_id": {"S": ses_id(number)}})
                if number != LOST:
                    items.append({"mailbox": {"S": f"ses#{ses_id(number)}"}})
            yield {"Items": items}
    def get_item(self, **_):
        return {}
    def query(self, **_):
        return {"Items": []}
    def get_object(self, **_):
        return {"Body": Body()}
    def head_object(self, **_):
        raise Error

service = Service()
with Tally() as tally:
    server = Server()
    servers = Servers(tally, {"primary": server, "backup": server}, CONFIG.mailboxes)
    servers.listen()
    found = [one for one in Auditor(Processor(CONFIG, service, Index(service, "t"))).findings(tally, None)]
    at_servers = {(one.server, one.ses_id, one.kind.name) for one in servers.findings(datetime.now(UTC))}
    count = tally.count
assert {one.ses_id for one in found} == {ses_id(LOST), ses_id(GONE), ses_id(BARE)}, found
assert at_servers == {
    (server, ses_id(number), kind)
    for server in ("primary", "backup")
    for number, kind in ((AWAY, "NOT_DELIVERED"), (UNKNOWN, "NOT_RECORDED"))
}, at_servers
print(json.dumps({"messages": count, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                  "seconds": resource.getrusage(resource.RUSAGE_SELF).ru_utime}))
"""


def test_a_million_messages_in_bounded_memory() -> None:
    result = subprocess.run(
        [sys.executable, "-c", MILLION, str(PROJECT), str(PROJECT / "src")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    print(said)
    assert said["messages"] == 1_000_000 and said["megabytes"] < 400
