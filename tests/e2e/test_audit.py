"""The audit of a system that runs: it names what is missing, and mends it."""

import json
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.test_faults import manifest_keys, message
from tests.e2e.test_sending import Commands
from tests.log_simulator import until
from twinmail import layout
from twinmail.basename import derived
from twinmail.index import Index
from twinmail.local.state import LOOPBACK, Claim
from twinmail.manifest import Entry
from twinmail.processor import Processor
from twinmail.server_page import LocalPage
from twinmail.ses_event import Receipt

USER = "u38"


@pytest.fixture(scope="module")
def commands(running: Running) -> Iterator[Commands]:
    claim = Claim(running.state)
    assert claim.take()
    yield Commands(running)
    claim.release()


def found(commands: Commands, *options: str) -> dict[str, dict[str, Any]]:
    """What an audit prints, by message; other tests leave discrepancies too."""
    result = commands.run("audit", "--json", *options)
    *lines, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert summary["discrepancies"] == len(lines) and summary["messages"] > 0
    assert result.returncode == int(summary["discrepancies"] > summary["repaired"]), result.stderr
    assert not summary["not_audited"]
    return {one["ses_id"]: one for one in lines}


def test_object_that_somebody_deleted_is_made_again(running: Running, commands: Commands) -> None:
    accepted = running.sender.send(message("audited"), ["ann@example.org"])
    running.assert_once("ann", accepted)
    assert accepted.ses_id not in found(commands)
    s3, bucket = running.system.session().client("s3"), running.system.config.bucket
    (key,) = manifest_keys(running, accepted)
    entry = Entry.from_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    before = s3.get_object(Bucket=bucket, Key=entry.key)["Body"].read()
    s3.delete_object(Bucket=bucket, Key=entry.key)
    one = found(commands, "--since", "1d")[accepted.ses_id]
    assert one["kind"] == "entry without its message" and "--repair" in one["remedy"]
    listed = commands.run("audit")
    assert listed.returncode == 1 and accepted.ses_id in listed.stdout and "stay" in listed.stderr
    assert found(commands, "--repair")[accepted.ses_id]["repair"] == "done"
    assert s3.get_object(Bucket=bucket, Key=entry.key)["Body"].read() == before
    assert accepted.ses_id not in found(commands)


def received_long_ago(running: Running, names: Sequence[str]) -> dict[str, Receipt]:
    """Messages that were in the log long before now, and are on both servers; by what they are about."""
    config, session = running.system.config, running.system.session()
    then = datetime.now(UTC) - timedelta(hours=30)
    index = Index(session.client("dynamodb"), config.table)
    processor = Processor(config, session.client("s3"), index, now=lambda: then)
    receipts = {}
    for name in names:
        receipt = Receipt(uuid.uuid4().hex, then, "a@example.com", (f"{USER}@example.org",), {})
        key = layout.incoming_key(receipt.ses_id)
        processor.s3.put_object(Bucket=config.bucket, Key=key, Body=message(name))
        processor.process(receipt)
        receipts[name] = receipt
    wanted = [(server, one) for server in SERVERS for one in receipts.values()]
    until(lambda: all(files(running, *one) for one in wanted), "delivered", 60)
    # Later mail moves the cursor: what is before it is not listed again each few seconds.
    running.assert_once("ann", running.sender.send(message("now"), ["ann@example.org"]))
    page = LocalPage(f"{LOOPBACK}:{running.system.ports['primary-health']}")
    later = layout.manifest_key("m", then + timedelta(hours=1))
    until(lambda: (json.loads(page.read("/status"))["cursor"] or "") > later, "cursor", 60)
    return receipts


def files(running: Running, server: str, receipt: Receipt) -> list[Path]:
    found = (running.state.maildirs(server) / USER / "Maildir").rglob(f"*{derived(receipt.ses_id)}*")
    return sorted(path for path in found if path.parent.name in ("new", "cur"))


def test_a_server_that_lost_something(running: Running, commands: Commands) -> None:
    broken = {
        "row": "in the Maildir and not in the ledger",
        "row and file": "not delivered",
        "everything": "not delivered",
        "twice": "twice in a folder",
        "longer": "changed on the disk",
        "other": "changed on the disk",
    }
    receipts = received_long_ago(running, [*broken, "deleted"])
    name_of = {one.ses_id: name for name, one in receipts.items()}
    place = {name: files(running, "primary", one)[0] for name, one in receipts.items()}
    before = {name: path.read_bytes() for name, path in place.items()}

    def audited(*options: str) -> dict[str, dict[str, Any]]:
        return {name_of[one]: told for one, told in found(commands, *options).items() if one in name_of}

    assert audited("--deep") == {}
    # A filter, a client or a person may rename, delete and add files; nobody but an accident changes the ledger.
    database = sqlite3.connect(running.state.ledger("primary") / "ledger.sqlite", timeout=10)
    with database:
        for name in ("row", "row and file", "everything"):
            database.execute(
                "DELETE FROM delivery WHERE stem LIKE ?", (f"%{derived(receipts[name].ses_id)}%",)
            )
        entry = f"%{receipts['everything'].ses_id}.json"
        assert database.execute("DELETE FROM entry WHERE key LIKE ?", (entry,)).rowcount == 1
    database.close()
    for name in ("row and file", "everything", "deleted"):
        place[name].unlink()
    (place["twice"].parents[1] / "cur" / f"{place['twice'].name}:2,S").hardlink_to(place["twice"])
    place["longer"].write_bytes(before["longer"] + b"?")
    place["other"].write_bytes(before["other"][:-3] + b"???")

    told = audited("--deep")
    assert {name: one["kind"] for name, one in told.items()} == broken
    assert {(one["server"], one["mailbox"]) for one in told.values()} == {("primary", USER)}
    assert set(audited("--since", "2d")) == set(broken) - {"other"} and audited("--cloud-only") == {}
    mended = audited("--deep", "--repair")
    assert {name for name, one in mended.items() if one["repair"] == "done"} == {
        "row",
        "row and file",
        "everything",
    }
    for name in ("row", "row and file", "everything"):
        (path,) = files(running, "primary", receipts[name])
        assert path.read_bytes() == before[name]
    assert files(running, "primary", receipts["deleted"]) == []
    rest = audited("--deep")
    assert set(rest) == {"twice", "longer", "other"}
    # The remedy is a command.
    for name in ("longer", "other"):
        place[name].unlink()
        words = rest[name]["remedy"].partition("./inv ")[2].split()
        assert commands.json(*words)["left"] == 0
        assert files(running, "primary", receipts[name])[0].read_bytes() == before[name]
    place["twice"].unlink()
    assert audited("--deep") == {}


def test_a_server_that_does_not_answer_is_named(running: Running, commands: Commands) -> None:
    running.system.stop_container("primary-syncer")
    try:
        result = commands.run("audit", "--json")
        assert result.returncode == 1 and "primary: not audited: " in result.stderr
        assert list(json.loads(result.stdout.splitlines()[-1])["not_audited"]) == ["primary"]
    finally:
        running.system.start_syncer("primary")
        running.system.wait_for_syncer("primary")
    result = commands.run("audit", "--cloud-only", "--deep")
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "--cloud-only" in result.stderr


def test_period_that_is_none_is_refused(commands: Commands) -> None:
    result = commands.run("audit", "--since", "yesterday")
    assert (
        result.returncode == 1 and "--since yesterday" in result.stderr and "Traceback" not in result.stderr
    )
