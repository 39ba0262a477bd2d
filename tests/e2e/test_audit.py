"""The audit of a system that runs: it names what is missing, and mends it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Running
from tests.e2e.test_faults import manifest_keys, message
from tests.e2e.test_sending import Commands
from twinmail.local.state import Claim
from twinmail.manifest import Entry


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


def test_period_that_is_none_is_refused(commands: Commands) -> None:
    result = commands.run("audit", "--since", "yesterday")
    assert (
        result.returncode == 1 and "--since yesterday" in result.stderr and "Traceback" not in result.stderr
    )
