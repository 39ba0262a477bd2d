"""A world in order, broken in random ways: the audit names these and no others, and repair mends what it can.

The processor, the auditor, and the ledgers, Maildirs and carriers of two servers are the production's.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cloud import CONFIG
from tests.log_simulator import LogSimulator
from tests.memory_cloud import MemoryS3, MemoryTable
from tests.reconciler_contract import fields_of_ses
from twinmail import layout
from twinmail.audit.auditor import Auditor, NotRepaired
from twinmail.audit.finding import Finding, Kind
from twinmail.audit.servers import Servers
from twinmail.audit.tally import Tally
from twinmail.config import Limits
from twinmail.delivery_lines import DEEP
from twinmail.index import Index
from twinmail.ledger import Ledger
from twinmail.manifest import Entry
from twinmail.processor import Processor
from twinmail.reconciler.turn import GRACE
from twinmail.ses_event import Receipt
from twinmail.sync.carrier import Carrier
from twinmail.sync.deliveries import Deliveries
from twinmail.sync.log import Log
from twinmail.sync.outage import Outage
from twinmail.sync.plan import message_stem

SERVERS = ("primary", "backup")
COUNT = 8
HOUR = timedelta(hours=1)

# What each break is found as, and whether repair mends it; None: it is no discrepancy.
CLOUD = {
    "message deleted": (Kind.NO_MESSAGE, True),
    "claim deleted": (Kind.NOT_CLAIMED, True),
    "items deleted": (Kind.NOT_INDEXED, True),
    "never processed": (Kind.NOT_LOGGED, True),
    "only the table knows": (Kind.LEFT_OVER, False),
    "entry damaged": (Kind.DAMAGED, False),
}
SERVER = {
    "never delivered": (Kind.NOT_DELIVERED, True),
    "ledger lost the delivery, and the file is gone": (Kind.NOT_DELIVERED, True),
    "ledger lost the delivery": (Kind.NOT_RECORDED, True),
    "twice in its folder": (Kind.TWICE, False),
    "longer than it was": (Kind.CHANGED, False),
    "other octets": (Kind.CHANGED, False),
    "deleted by its user": (None, True),
    "moved by its user": (None, True),
    "copied by its user": (None, True),
}


class Table(MemoryTable):
    """A table that can be scanned."""

    def get_paginator(self, name: str) -> "Table":
        assert name == "scan"
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        yield {"Items": list(self.rows.values())}


class Source(LogSimulator):
    """The bucket as a syncer reads it."""

    def __init__(self, s3: MemoryS3) -> None:
        self._s3, self._page = s3, 3
        self.fault, self.reads = None, []

    @property
    def objects(self) -> dict[str, bytes]:  # type: ignore[override]
        return {key: one.data for key, one in self._s3.objects.items()}


class Server:
    """One server, and the way to its page."""

    where = "here"

    def __init__(self, root: Path, s3: MemoryS3) -> None:
        self.mail, state = root / "mail", root / "state"
        self.mail.mkdir(parents=True)
        state.mkdir()
        log = Log(StringIO())
        self.ledger = Ledger(state, self.mail)
        outages = [Outage(name, log) for name in ("s3", "disk")]
        source = Source(s3)
        self.carrier = Carrier(source, self.ledger, self.mail, Limits(parallel_downloads=1), log, *outages)
        self._deliveries = Deliveries(source, self.carrier, self.mail)

    def lines(self, path: str) -> Iterator[bytes]:
        with self._deliveries.reading(path == DEEP) as lines:
            yield from lines

    def read(self, path: str, request: bytes | None = None) -> bytes:
        assert request is not None
        return json.dumps(self._deliveries.mend(request)).encode()

    def file(self, mailbox: str, entry: Entry) -> Path:
        (path,) = (self.mail / mailbox / "Maildir").rglob(f"{message_stem(entry)}*")
        return path

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.mail)): path.read_bytes()
            for path in sorted(self.mail.rglob("*.twinmail,*"))
        }

    def close(self) -> None:
        self.carrier.stop(5)
        self.ledger.close()


class World:
    """Eight messages, each everywhere it should be."""

    def __init__(self, root: Path) -> None:
        self.s3, self.table = MemoryS3(lambda: datetime.now(UTC) - HOUR), Table()
        self.servers = {name: Server(root / name, self.s3) for name in SERVERS}
        self.entries: list[Entry] = []
        self.keys: list[str] = []
        for number in range(COUNT):
            recipients = ("ann@example.org", "bob@example.org")[: 1 + number % 2]
            receipt = Receipt(f"m{number}", datetime.now(UTC) - 2 * HOUR, "a@example.com", recipients, {})
            self._store(receipt.ses_id, b"Subject: %d\r\n\r\nbody\r\n" % number)
            outcome = self.processor(lambda: datetime.now(UTC) - HOUR).process(receipt)
            assert outcome.entry is not None
            self.entries.append(outcome.entry)
            self.keys.append(outcome.manifest_key)
            for server in self.servers.values():
                assert server.carrier.carry(outcome.manifest_key, "test").result(10).settled

    def _store(self, ses_id: str, octets: bytes) -> None:
        self.s3.put_object(Key=layout.incoming_key(ses_id), Body=octets)

    def processor(self, now: Any = lambda: datetime.now(UTC)) -> Processor:
        return Processor(CONFIG, self.s3, Index(self.table, CONFIG.table), now=now)

    def close(self) -> None:
        for server in self.servers.values():
            server.close()

    def audit(self, repair: bool = False) -> tuple[list[Finding], list[Finding]]:
        """What is found, and what of it stays."""
        auditor, stay = Auditor(self.processor()), []
        with Tally() as tally:
            servers = Servers(tally, self.servers, CONFIG.mailboxes, deep=True)
            servers.listen()
            cloud = list(auditor.findings(tally, None))
            here = list(servers.findings(datetime.now(UTC) - GRACE))
            assert not servers.unreachable
            if not repair:
                return cloud + here, cloud + here
            for one in cloud:
                try:
                    auditor.repair(one)
                except NotRepaired:
                    stay.append(one)
            stay += [one for one, why in zip(here, servers.repair(here), strict=True) if why]
        return cloud + here, stay

    def break_cloud(self, how: str, number: int) -> str:
        """Break message *number*, and return the id of the one that is found."""
        entry, key = self.entries[number], self.keys[number]
        if how == "message deleted":
            self.s3.delete_object(Key=entry.key)
        elif how == "entry damaged":
            self.s3.put_object(Key=key, Body=b"{")
            # It is looked at closely when something differs.
            self._forget(f"ses#{entry.ses_id}")
        elif how == "claim deleted":
            self._forget(f"ses#{entry.ses_id}")
        elif how == "items deleted":
            for name, row in list(self.table.rows.items()):
                if row.get("ses_id") == {"S": entry.ses_id}:
                    del self.table.rows[name]
        elif how == "only the table knows":
            for one in (entry.key, key, layout.incoming_key(entry.ses_id)):
                self.s3.delete_object(Key=one)
        else:
            ses_id = f"new{number}"
            self._store(ses_id, fields_of_ses("x", "") + b"To: ann@example.org\r\n\r\n")
            return ses_id
        return entry.ses_id

    def _forget(self, mailbox: str) -> None:
        for name in [one for one in self.table.rows if one[0] == mailbox]:
            del self.table.rows[name]

    def break_server(self, how: str, number: int, name: str, mailbox: str) -> None:
        server, entry = self.servers[name], self.entries[number]
        path, lost = server.file(mailbox, entry), {mailbox: [message_stem(entry)]}
        if how.startswith("ledger lost"):
            server.ledger.forget(lost, [])
        elif how == "never delivered":
            server.ledger.forget(lost, [self.keys[number]])
        if how in (
            "never delivered",
            "ledger lost the delivery, and the file is gone",
            "deleted by its user",
        ):
            path.unlink()
        elif how == "twice in its folder":
            (path.parents[1] / "cur" / f"{path.name}:2,S").hardlink_to(path)
        elif how.endswith("by its user"):
            archive = path.parents[1] / ".Archive" / "cur"
            archive.mkdir(parents=True, exist_ok=True)
            (archive / f"{path.name}:2,S").hardlink_to(path)
            if how.startswith("moved"):
                path.unlink()
        elif how in ("longer than it was", "other octets"):
            octets = path.read_bytes()
            # Another file: the mailboxes of a server share one.
            path.unlink()
            path.write_bytes(octets + b"?" if how == "longer than it was" else octets[:-3] + b"???")


@st.composite
def breaks(draw: st.DrawFn) -> Sequence[tuple[str, int, str, str]]:
    """A few breaks, each of another message: how, its number, and of which server and mailbox."""
    found = []
    for number in draw(st.sets(st.integers(0, COUNT - 1), max_size=5)):
        how = draw(st.sampled_from([*CLOUD, *SERVER]))
        mailbox = draw(st.sampled_from(("ann", "bob")[: 1 + number % 2]))
        found.append((how, number, draw(st.sampled_from(SERVERS)), mailbox))
    return found


def sorted_findings(found: Sequence[Finding]) -> list[tuple[str, str, str, str]]:
    return sorted((one.ses_id, one.kind.name, one.server, one.mailbox) for one in found)


@settings(max_examples=40, deadline=None)
@given(chosen=breaks())
def test_findings_are_the_breaks_and_repair_leaves_only_what_it_cannot_mend(
    chosen: Sequence[tuple[str, int, str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(os, "fsync", lambda descriptor: None):
        world = World(Path(folder))
        try:
            assert world.audit()[0] == []
            before = {name: server.files() for name, server in world.servers.items()}
            expected, stays = [], []
            # What must not be as it was: the file of a break that nobody mends.
            deleted, altered = set(), set()
            for how, number, server, mailbox in chosen:
                if how in CLOUD:
                    kind, mended = CLOUD[how]
                    finding = (world.break_cloud(how, number), kind.name, "", "")
                else:
                    found_as, mended = SERVER[how]
                    path = world.servers[server].file(mailbox, world.entries[number])
                    place = (server, str(path.relative_to(world.servers[server].mail)))
                    if how in ("deleted by its user", "moved by its user"):
                        deleted.add(place)
                    elif how in ("longer than it was", "other octets"):
                        altered.add(place)
                    world.break_server(how, number, server, mailbox)
                    if found_as is None:
                        continue
                    finding = (world.entries[number].ses_id, found_as.name, server, mailbox)
                expected.append(finding)
                stays += [] if mended else [finding]
            found, stay = world.audit(repair=True)
            assert sorted_findings(found) == sorted(expected)
            assert sorted_findings(stay) == sorted(stays)
            # What its user deleted does not come back, and what was missing is there to the octet.
            state = {name: server.files() for name, server in world.servers.items()}
            for name, files in before.items():
                for path, octets in files.items():
                    if (name, path) in deleted:
                        assert path not in state[name]
                    else:
                        assert (state[name][path] != octets) == ((name, path) in altered)
            again, stay = world.audit(repair=True)
            assert sorted_findings(again) == sorted_findings(stay) == sorted(stays)
            assert state == {name: server.files() for name, server in world.servers.items()}
            for one in again:
                assert one.remedy and "SERVER" not in one.remedy and "SINCE" not in one.remedy
        finally:
            world.close()
