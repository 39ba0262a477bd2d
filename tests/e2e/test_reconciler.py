"""Mail that was accepted while the function was away, or broken, is in both mailboxes once, whatever got lost."""

import json
import smtplib
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.deploy.test_iam import letter
from tests.e2e.conftest import Running
from tests.e2e.mail import Accepted
from tests.e2e.people import wait
from tests.e2e.test_faults import function_with, manifest_keys, ses_event
from tests.e2e.test_sending import Commands
from twinmail.layout import incoming_key
from twinmail.local.state import LOOPBACK, Claim
from twinmail.reconciler import slices

FUNCTION = "twinmail-processor"
BROKEN = "raise ImportError('a broken deployment')"
# A parser that fails with every message: the same function, made with another one.
BAD_PARSER = """
import dataclasses
import real

def read(start):
    raise RecursionError("a broken parser")

real.PROCESSOR = dataclasses.replace(real.PROCESSOR, read=read)
handle = real.handle
"""


@pytest.fixture(scope="module")
def commands(running: Running) -> Iterator[Commands]:
    claim = Claim(running.state)
    assert claim.take()
    yield Commands(running)
    claim.release()


@pytest.fixture(scope="module", autouse=True)
def no_delay(running: Running) -> Iterator[None]:
    """Notices are due at once."""
    sqs = running.system.session().client("sqs")
    url = sqs.get_queue_url(QueueName=running.system.config.arrivals_queue)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
    yield
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "300"})


def send(running: Running, *to: str) -> Accepted:
    """A letter whose header names only the first of *to*."""
    return running.sender.send(letter("a@example.com", to[0]), to)


def turn(running: Running, at: datetime | None = None) -> None:
    """The schedule starts a turn of the reconciler."""
    time = (at or datetime.now(UTC)).isoformat()
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "time": time, "detail": {}}
    client = running.system.session().client("lambda")
    answer = client.invoke(FunctionName=FUNCTION, Payload=json.dumps(event).encode())
    assert not answer.get("FunctionError"), answer["Payload"].read()


@contextmanager
def without_events(running: Running) -> Iterator[None]:
    """SES stores messages and tells the queue of them, but the function is not invoked."""
    ses, config = running.system.session().client("ses"), running.system.config
    rule = ses.describe_receipt_rule(RuleSetName=config.rule_set, RuleName=config.rule)["Rule"]
    rest = [one for one in rule["Actions"] if "LambdaAction" not in one]
    with changed(running, {**rule, "Actions": rest}):
        pass
    try:
        yield
    finally:
        with changed(running, rule):
            pass


@contextmanager
def changed(running: Running, rule: dict[str, Any]) -> Iterator[None]:
    """The receipt rule is as it says, and the edge knows: it takes an address that came after it."""
    ses, config = running.system.session().client("ses"), running.system.config
    ses.update_receipt_rule(RuleSetName=config.rule_set, Rule=rule)
    mark = f"{uuid.uuid4().hex}@mark.test"
    name = f"mark-{uuid.uuid4().hex[:8]}"
    made = {"Name": name, "Enabled": True, "Recipients": [mark], "Actions": []}
    ses.create_receipt_rule(RuleSetName=config.rule_set, Rule=made, After=config.rule)
    try:
        wait(lambda: taken(running, mark), "the edge's new rules")
        yield
    finally:
        ses.delete_receipt_rule(RuleSetName=config.rule_set, RuleName=name)


def taken(running: Running, address: str) -> bool:
    with smtplib.SMTP(LOOPBACK, running.system.ports["edge"], timeout=30) as client:
        client.ehlo("sender.example.com")
        client.mail("a@example.com")
        return client.rcpt(address)[0] == 250


def test_mail_accepted_while_all_events_are_dropped(running: Running) -> None:
    with without_events(running):
        one, both, hidden = (
            send(running, "ann@example.org"),
            send(running, "team@example.org"),
            # Bob in the envelope alone.
            send(running, "ann@example.org", "bob@example.org"),
        )
    assert not any(manifest_keys(running, accepted) for accepted in (one, both, hidden))
    turn(running)
    for accepted, users in ((one, ["ann"]), (both, ["ann", "bob"]), (hidden, ["ann", "bob"])):
        assert len(manifest_keys(running, accepted)) == 1
        for user in users:
            running.assert_once(user, accepted)
    turn(running)
    assert len(manifest_keys(running, one)) == 1


def test_mail_of_which_no_event_and_no_notice_ever_came(running: Running) -> None:
    with without_events(running):
        accepted = send(running, "bob@example.org")
        sqs = running.system.session().client("sqs")
        url = sqs.get_queue_url(QueueName=running.system.config.arrivals_queue)["QueueUrl"]
        sqs.purge_queue(QueueUrl=url)
    start = datetime.now(UTC) + timedelta(minutes=10)
    turns = (start + slices.TURN * number for number in range(slices.COUNT))
    turn(running, next(one for one in turns if accepted.ses_id in slices.of_turn(one)))
    running.assert_once("bob", accepted)


def test_turns_beside_the_function_deliver_once(running: Running) -> None:
    accepted: list[Accepted] = []

    def deliver() -> None:
        accepted.extend(send(running, "ann@example.org") for _ in range(6))

    sending = threading.Thread(target=deliver)
    sending.start()
    while sending.is_alive():
        turn(running)
    sending.join()
    turn(running)
    assert len(accepted) == 6
    for one in accepted:
        running.assert_once("ann", one)
        assert len(manifest_keys(running, one)) == 1


def test_outage_of_the_function(running: Running, commands: Commands) -> None:
    with function_with(running, BROKEN):
        accepted = send(running, "ann@example.org")
        wait(lambda: accepted.ses_id in letters(commands), "the dead letter")
    found = letters(commands)[accepted.ses_id]
    assert (found["kind"], found["attempts"]) == ("message", 3) and "a broken deployment" in found["error"]
    turn(running)
    running.assert_once("ann", accepted)
    # What the reconciler did is done: trying again only tidies up.
    commands.run("dlq", "--retry")
    assert accepted.ses_id not in letters(commands)
    assert len(manifest_keys(running, accepted)) == 1
    running.assert_once("ann", accepted)


def letters(commands: Commands) -> dict[str, dict[str, Any]]:
    """What is in the dead-letter queue, by the message it is about."""
    found = commands.json("dlq")["letters"]
    return {ses_id: one for one in found for ses_id in one["ses_ids"]}


def test_message_that_is_not_there_stays_in_the_queue_until_it_is(
    running: Running, commands: Commands
) -> None:
    accepted = Accepted(f"late{uuid.uuid4().hex}", letter("a@example.com", "bob@example.org"))
    event = json.dumps(ses_event(accepted, "bob@example.org")).encode()
    session = running.system.session()
    session.client("lambda").invoke(FunctionName=FUNCTION, InvocationType="Event", Payload=event)
    wait(lambda: accepted.ses_id in letters(commands), "the dead letter")
    assert letters(commands)[accepted.ses_id]["error"].startswith("MessageMissing")

    tried = commands.run("dlq", "--retry")
    assert tried.returncode == 1 and "stay in the queue" in tried.stderr
    listed = commands.run("dlq")
    assert listed.returncode == 0 and accepted.ses_id in listed.stdout and "MessageMissing" in listed.stdout

    bucket, key = running.system.config.bucket, incoming_key(accepted.ses_id)
    session.client("s3").put_object(Bucket=bucket, Key=key, Body=accepted.data)
    tried = commands.run("dlq", "--retry", "--json")
    (one,) = [one for one in json.loads(tried.stdout)["letters"] if accepted.ses_id in one["ses_ids"]]
    assert one["retried"] == "done"
    running.assert_once("bob", accepted)
    assert accepted.ses_id not in letters(commands)


def test_broken_parser_withholds_no_mail(running: Running, commands: Commands) -> None:
    with function_with(running, BAD_PARSER):
        accepted = send(running, "team@example.org")
        running.assert_once("ann", accepted)
        running.assert_once("bob", accepted)
    parked = {one["ses_id"]: one["reason"] for one in commands.json("dlq")["parked"]}
    assert parked[accepted.ses_id] == "reading it: RecursionError: a broken parser"
    assert "RecursionError" in commands.run("dlq").stdout
    assert "parked, and delivered as it is" in commands.run("show", accepted.ses_id).stdout
    uid = running.uids("ann", accepted)["backup"][0]
    with running.client("backup", "ann") as client:
        assert client.fetch(uid).endswith(accepted.data)
