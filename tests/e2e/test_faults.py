"""What breaks, breaks for real: nothing is lost and nothing arrives twice."""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.conftest import Running
from tests.e2e.mail import Accepted, stored
from twinmail.function_zip import build_function, pack
from twinmail.layout import incoming_key
from twinmail.processor import STEPS as PROCESSOR_STEPS
from twinmail.sync.steps import STEPS as SYNCER_STEPS
from twinmail.tasks.config import PROJECT

# The function's real code, which dies once a message at one step: no exception, no clean-up.
CRASHING = """
import dataclasses, os
import botocore.exceptions
import real

def die_once(step, ses_id):
    if step != STEP:
        return
    try:
        real.PROCESSOR.s3.put_object(
            Bucket=real.CONFIG.bucket, Key="state/crashed-" + STEP + ses_id, Body=b"", IfNoneMatch="*")
    except botocore.exceptions.ClientError:
        return
    os._exit(1)

PROCESSOR = real.PROCESSOR

def handle(event, context):
    ses_id = event["Records"][0]["ses"]["mail"]["messageId"]
    real.PROCESSOR = dataclasses.replace(PROCESSOR, checkpoint=lambda step: die_once(step, ses_id))
    return real.handle(event, context)
"""


def message(subject: str) -> bytes:
    return f"From: sender@example.com\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()


@pytest.fixture
def primary(running: Running) -> Iterator[Running]:
    """A running system whose primary syncer the test may replace; it is whole again afterwards."""
    yield running
    running.system.stop_container("primary-syncer")
    running.system.start_syncer("primary")
    running.system.wait_for_syncer("primary")


def send(running: Running, subject: str, user: str = "ann") -> Accepted:
    return running.sender.send(message(subject), [f"{user}@example.org"])


def restart_syncer(running: Running, *options: str) -> None:
    running.system.stop_container("primary-syncer")
    running.system.start_syncer("primary", *options)


def test_push_alone_delivers(primary: Running) -> None:
    restart_syncer(primary, "--no-poll")
    primary.assert_once("ann", send(primary, "push only"), timeout=120)


def test_poll_alone_delivers(primary: Running) -> None:
    restart_syncer(primary, "--no-push")
    primary.assert_once("ann", send(primary, "poll only"))


def test_primary_down_for_a_while_gets_everything_when_it_is_back(running: Running) -> None:
    system = running.system
    system.stop_container("primary-syncer")
    system.stop_container("primary-dovecot")
    accepted = [send(running, f"down {number}") for number in range(5)]
    with running.client("backup", "ann") as client:
        client.wait_for(accepted)
    assert not any(stored(running.state.maildirs("primary"), "ann", one) for one in accepted)
    system.start_dovecot("primary")
    system.wait_for_dovecot("primary")
    system.start_syncer("primary")
    for one in accepted:
        running.assert_once("ann", one)


@pytest.mark.parametrize("step", SYNCER_STEPS)
def test_syncer_killed_between_any_two_steps(primary: Running, step: str) -> None:
    restart_syncer(primary, "--crash-at", step)
    accepted = send(primary, f"crash at {step}")
    ended = primary.system.containers["primary-syncer"].wait(120)
    assert ended.code == 137
    restart_syncer(primary)
    primary.assert_once("ann", accepted)


def test_a_deleted_message_stays_deleted(primary: Running) -> None:
    accepted, witness = send(primary, "to be deleted"), send(primary, "to be kept")
    uids = primary.uids("ann", accepted)
    primary.uids("ann", witness)
    with primary.client("primary", "ann") as client:
        client.delete(uids["primary"][0])
    restart_syncer(primary)
    primary.assert_once("ann", send(primary, "after the restart"))
    assert not stored(primary.state.maildirs("primary"), "ann", accepted)
    # The ledger's database is lost: what it knew must come from elsewhere, the deletion included.
    primary.system.stop_container("primary-syncer")
    for path in primary.state.ledger("primary").glob("*.sqlite*"):
        path.unlink()
    primary.system.start_syncer("primary")
    primary.assert_once("ann", send(primary, "after the rebuilt ledger"))
    primary.system.wait_for_syncer("primary")
    assert not stored(primary.state.maildirs("primary"), "ann", accepted)
    primary.assert_once("ann", witness)
    with primary.client("backup", "ann") as client:
        assert len(client.find(accepted)) == 1


def manifest_keys(running: Running, accepted: Accepted) -> list[str]:
    s3 = running.system.session().client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=running.system.config.bucket, Prefix="manifest/"
    )
    keys = (one["Key"] for page in pages for one in page.get("Contents", ()))
    return [key for key in keys if accepted.ses_id in key]


def ses_event(accepted: Accepted, recipient: str) -> dict[str, Any]:
    """What SES announced when it took *accepted*, once more."""
    passed = {f"{name}Verdict": {"status": "PASS"} for name in ("spam", "virus", "spf", "dkim", "dmarc")}
    mail = {
        "timestamp": "2026-11-22T10:00:00.000Z",
        "source": "sender@example.com",
        "messageId": accepted.ses_id,
    }
    return {"Records": [{"ses": {"mail": mail, "receipt": {"recipients": [recipient], **passed}}}]}


def test_duplicate_and_reordered_events_make_one_copy(running: Running) -> None:
    accepted = [send(running, f"duplicate {number}") for number in range(4)]
    for one in accepted:
        running.assert_once("ann", one)
    events = [ses_event(one, "ann@example.org") for one in accepted]
    function = running.system.session().client("lambda")
    for event in [*reversed(events), *events]:
        answer = function.invoke(FunctionName="twinmail-processor", Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer, answer["Payload"].read()
    after = send(running, "after the duplicates")
    running.assert_once("ann", after)
    for one in accepted:
        assert len(manifest_keys(running, one)) == 1
        running.assert_once("ann", one)


def test_event_that_overtakes_an_older_one_loses_neither(running: Running) -> None:
    s3 = running.system.session().client("s3")
    function = running.system.session().client("lambda")
    accepted = []
    for number in range(3):
        one = Accepted(f"reordered{number}x{running.system.ports['edge']}", message(f"reordered {number}"))
        s3.put_object(Bucket=running.system.config.bucket, Key=incoming_key(one.ses_id), Body=one.data)
        accepted.append(one)
    for one in reversed(accepted):
        event = json.dumps(ses_event(one, "ann@example.org")).encode()
        function.invoke(FunctionName="twinmail-processor", InvocationType="Event", Payload=event)
    for one in accepted:
        running.assert_once("ann", one)


@contextmanager
def function_with(running: Running, handler: str) -> Iterator[None]:
    """The function has *handler* as its code, which finds the real one in the module ``real``."""
    client = running.system.session().client("lambda")
    real = build_function(PROJECT / "src", PROJECT / "lambda" / "handler.py", running.system.config_file)
    with zipfile.ZipFile(io.BytesIO(real.data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["real.py"] = files["handler.py"]
    files["handler.py"] = handler.encode()
    try:
        client.update_function_code(FunctionName="twinmail-processor", ZipFile=pack(files))
        client.get_waiter("function_updated_v2").wait(FunctionName="twinmail-processor")
        yield
    finally:
        client.update_function_code(FunctionName="twinmail-processor", ZipFile=real.data)
        client.get_waiter("function_updated_v2").wait(FunctionName="twinmail-processor")


@pytest.mark.parametrize("step", PROCESSOR_STEPS)
def test_processor_dying_between_any_two_writes_is_retried(running: Running, step: str) -> None:
    with function_with(running, CRASHING.replace("STEP", repr(step))):
        accepted = send(running, f"processor dies at {step}")
        running.assert_once("ann", accepted, timeout=90)
    s3 = running.system.session().client("s3")
    s3.head_object(Bucket=running.system.config.bucket, Key=f"state/crashed-{step}{accepted.ses_id}")
    assert len(manifest_keys(running, accepted)) == 1


def test_localstack_restarted(running: Running) -> None:
    before = send(running, "before the restart")
    running.assert_once("ann", before)
    running.system.stop_container("primary-syncer")
    waiting = send(running, "accepted before, synced after")
    with running.client("backup", "ann") as client:
        client.wait_for([waiting])
    running.system.restart("localstack")
    running.system.start_syncer("primary")
    running.assert_once("ann", waiting)
    running.assert_once("ann", send(running, "after the restart"))
    running.assert_once("ann", before)
