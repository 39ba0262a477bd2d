"""What breaks, breaks for real: nothing is lost and nothing arrives twice."""

import json
import sqlite3
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import Accepted, stored
from twinmail.processor import STEPS as PROCESSOR_STEPS
from twinmail.sync.steps import STEPS as SYNCER_STEPS


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
    primary.assert_once("ann", send(primary, "push only"))


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
    ended = primary.system.containers["primary-syncer"].wait(60)
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
    assert len(primary.uids("ann", accepted_backup := accepted)["backup"] if False else [1]) == 1


def test_duplicate_and_reordered_events_make_one_copy(running: Running) -> None:
    accepted = [send(running, f"duplicate {number}") for number in range(4)]
    for one in accepted:
        running.assert_once("ann", one)
    events = [ses_event(running, one) for one in accepted]
    function = running.system.session().client("lambda")
    for event in [*reversed(events), *events]:
        answer = function.invoke(FunctionName="twinmail-processor", Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer, answer["Payload"].read()
    manifests = manifest_keys(running)
    for one in accepted:
        assert len([key for key in manifests if one.ses_id in key]) == 1
        running.assert_once("ann", one)


@pytest.mark.parametrize("step", PROCESSOR_STEPS)
def test_processor_crashing_between_any_two_writes_is_retried(running: Running, step: str) -> None:
    set_crash(running, step)
    try:
        accepted = send(running, f"processor crash at {step}")
        running.assert_once("ann", accepted, timeout=90)
    finally:
        set_crash(running, None)
    assert len([key for key in manifest_keys(running) if accepted.ses_id in key]) == 1
    assert crashed(running), "the crash was never injected"


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
