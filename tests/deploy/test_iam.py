"""Least privilege, proved by a record: the whole system runs, and who did what is held against the policies.

LocalStack enforces no policy but that for sending, so what AWS would refuse here succeeds, and is found in the
record; what is allowed and never done is found in the policies as they were deployed.
"""

import json
import shutil
import smtplib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.deploy.recorded_calls import CALLS, Need, listed, needs, policies
from tests.e2e.conftest import SERVERS, Running, configuration
from tests.e2e.people import sent_to, stranger, use_script, wait
from twinmail import smtp_credentials
from twinmail.local import accounts, pki
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import available, choose
from twinmail.tasks.config import PROJECT

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
KINDS = ("compactor", "function", "syncer", "relay", "smtp")

# What is allowed and not done in this run, with the reason why it stays.
UNUSED: Mapping[tuple[str, str, str], str] = {}


@dataclass(frozen=True)
class Record:
    """What was done, and what is allowed.

    Attributes:
        policies: documents by ``user/NAME`` or ``role/NAME``.
    """

    needs: tuple[Need, ...]
    policies: Mapping[str, tuple[dict[str, Any], ...]]


def kind(who: str) -> str:
    """Which of `KINDS` *who* is."""
    name = who.lower().replace("role-", "-")
    found = [one for one in KINDS if f"-{one}-" in name or one in name.rpartition("-")[2]]
    return found[0] if found else "function" if who.startswith("role/") else who


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    folder = tmp_path_factory.mktemp("recorded")
    # The webmail calls nothing but SES, as any other with an SMTP credential.
    (folder / "twinmail.toml").write_text(configuration().replace("webmail = true", "webmail = false"))
    images = State.of_checkout(PROJECT)
    state = State(root=folder / "local", images=images.images, layers=images.layers)
    runtime = choose(available()[0], state.root, state.layers)
    system = LocalSystem(
        state,
        folder / "twinmail.toml",
        runtime,
        host_platform(),
        ephemeral_ports=True,
        syncer_options=("--poll-seconds", "2"),
        record=True,
    )
    try:
        system.start()
        running = Running(system, accounts.passwords(state), pki.client_context(system.ca))
        live(running)
        allowed = policies(system.session().client("iam"))
    finally:
        system.stop()
    yield Record(tuple({str(one): one for one in needs(state.localstack / CALLS)}.values()), allowed)


def letter(sender: str, to: str, body: bytes = b"Hello") -> bytes:
    head = f"From: <{sender}>\r\nTo: {to}\r\nSubject: x\r\nMessage-ID: <{uuid.uuid4()}@example.com>\r\n\r\n"
    return head.encode() + body + b"\r\n"


def live(running: Running) -> None:
    """Everything that makes a part of the system call the cloud, errors too."""
    receive(running)
    answer(running)
    send(running)
    hold(running)
    fail(running)
    reconcile(running)
    compact(running)
    rebuild(running)


def receive(running: Running) -> None:
    """Mail, junk and a virus arrive; one message cannot be delivered for a while."""
    running.assert_once(
        "ann", running.sender.send(letter("a@example.com", "ann@example.org"), ["ann@example.org"])
    )
    junk = running.sender.send(letter("a@example.com", "bob@example.org", GTUBE), ["bob@example.org"])
    running.assert_once("bob", junk, "Junk")
    running.sender.send(letter("a@example.com", "bob@example.org", EICAR), ["bob@example.org"])


def answer(running: Running) -> None:
    """A vacation answer and a redirected message, which both servers know of."""
    friend, target = stranger(), stranger()
    script = f'require ["vacation", "copy"];\r\nredirect :copy "{target}";\r\nvacation "I am away.";\r\n'
    use_script(running, "primary", "u25", script)
    running.sender.send(letter(friend, "u25@example.org"), ["u25@example.org"], mail_from=friend)
    wait(lambda: bool(sent_to(running, friend)), "the vacation answer")
    wait(lambda: bool(sent_to(running, target)), "the redirected message")


def send(running: Running) -> None:
    """By the relay, by an SMTP credential, and to somebody who does not exist."""
    relayed, direct = stranger(), stranger()
    with smtplib.SMTP_SSL(
        LOOPBACK, running.system.ports["primary-submission"], context=running.tls
    ) as client:
        client.login("ann", running.passwords["ann"])
        client.sendmail("ann@example.org", [relayed], letter("ann@example.org", relayed))
    wait(lambda: bool(sent_to(running, relayed)), "what the relay took")
    credential = smtp_credentials.create(running.system.session().client("iam"), running.system.config, "bob")
    with smtplib.SMTP_SSL("localhost", running.system.ports["submissions"], context=running.tls) as client:
        client.login(credential.user, credential.password)
        for to in (direct, "bounce@simulator.amazonses.com"):
            client.sendmail("bob@example.org", [to], letter("bob@example.org", to))
    wait(lambda: bool(sent_to(running, direct)), "what SES took")
    appears(running, "state/feedback/")
    appears(running, "state/sent/")


def fail(running: Running) -> None:
    """Lambda gives up an event of a message that is not there."""
    passed = {f"{name}Verdict": {"status": "PASS"} for name in ("spam", "virus", "spf", "dkim", "dmarc")}
    mail = {"timestamp": "2026-11-22T10:00:00.000Z", "source": "a@example.com", "messageId": "not-there"}
    event = {"Records": [{"ses": {"mail": mail, "receipt": {"recipients": ["ann@example.org"], **passed}}}]}
    session = running.system.session()
    session.client("lambda").invoke(
        FunctionName="twinmail-processor", InvocationType="Event", Payload=json.dumps(event).encode()
    )
    sqs = session.client("sqs")
    url = sqs.get_queue_url(QueueName="twinmail-dead-letters")["QueueUrl"]
    attributes = ["ApproximateNumberOfMessages"]
    wait(
        lambda: (
            sqs.get_queue_attributes(QueueUrl=url, AttributeNames=attributes)["Attributes"][attributes[0]]
            != "0"
        ),
        "the dead letter",
    )


def reconcile(running: Running) -> None:
    """The schedule starts a turn, which finds the notices of what came since."""
    session = running.system.session()
    sqs = session.client("sqs")
    url = sqs.get_queue_url(QueueName="twinmail-arrivals")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
    to = ["ann@example.org"]
    running.assert_once("ann", running.sender.send(letter("a@example.com", to[0]), to))
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-11-22T10:00:00Z"}
    answer = session.client("lambda").invoke(
        FunctionName="twinmail-processor", Payload=json.dumps(event).encode()
    )
    assert "FunctionError" not in answer, answer["Payload"].read()


def compact(running: Running) -> None:
    """The schedule starts a turn so late that all that came by now is packed; another turn fails."""
    client = running.system.session().client("lambda")
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "time": "2126-11-22T10:00:00Z"}
    answer = client.invoke(FunctionName="twinmail-compactor", Payload=json.dumps(event).encode())
    assert "FunctionError" not in answer, answer["Payload"].read()
    client.invoke(FunctionName="twinmail-compactor", InvocationType="Event", Payload=b'{"time": "never"}')
    calls = running.state.localstack / CALLS
    wait(
        lambda: any(
            '"Publish"' in line and '"role/' in line and "-alarms" in line
            for line in calls.read_text().splitlines()
        ),
        "the operator told",
    )


def rebuild(running: Running) -> None:
    """A server that lost its volumes reads past days from packs."""
    system, state = running.system, running.state
    for service in ("syncer", "dovecot"):
        system.stop_container(f"backup-{service}")
    for path in (state.maildirs("backup"), state.ledger("backup")):
        shutil.rmtree(path)
    system._prepare()
    system.start_dovecot("backup")
    system.wait_for_dovecot("backup")
    system.start_syncer("backup")
    system.wait_for_syncer("backup")
    made = [json.loads(line) for line in (state.localstack / CALLS).read_text().splitlines()]
    own = [one for one in made if "-syncer-backup" in str(one["principal"])]
    keys = [one.get("parameters", {}).get("Key", "") for one in own]
    assert {key.rpartition(".")[2] for key in keys if key.startswith("packs/")} == {"json", "pack"}


def hold(running: Running) -> None:
    """A server that cannot write to a mailbox for a while gives the announcement back."""
    to = ["carol@example.net"]
    running.assert_once("carol", running.sender.send(letter("a@example.com", to[0]), to))
    folder = running.state.maildirs("primary") / "carol" / "Maildir" / "tmp"
    mode = folder.stat().st_mode & 0o777
    folder.chmod(0o500)
    try:
        held = running.sender.send(letter("a@example.com", to[0]), to)
        calls = running.state.localstack / CALLS
        wait(lambda: "ChangeMessageVisibility" in calls.read_text(), "the announcement given back")
    finally:
        folder.chmod(mode)
    running.assert_once("carol", held)


def appears(running: Running, prefix: str) -> None:
    """Wait until there is an object under *prefix*."""
    s3, bucket = running.system.session().client("s3"), running.system.config.bucket
    wait(lambda: bool(s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("KeyCount")), prefix)


def test_everybody_does_something(record: Record) -> None:
    """The record would prove nothing about somebody who is not in it."""
    assert {kind(one.who) for one in record.needs} == set(KINDS)
    assert {one.who for one in record.needs} >= {f"user/twinmail-syncer-{server}" for server in SERVERS}


def refused(record: Record) -> list[Need]:
    """What was done and no policy allows."""
    return [one for one in record.needs if not any(map(one.is_met_by, record.policies[one.who]))]


def unused(record: Record) -> set[tuple[str, str, str]]:
    """What is allowed and nobody of the kind did."""
    done: dict[tuple[str, str, str], bool] = {}
    for who in {one.who for one in record.needs}:
        own = [one for one in record.needs if one.who == who]
        for policy in record.policies[who]:
            for single, entry in entries(who, policy):
                done[entry] = done.get(entry, False) or any(one.is_met_by(single) for one in own)
    return {entry for entry, used in done.items() if not used}


def test_nothing_is_done_that_is_not_allowed(record: Record) -> None:
    found = refused(record)
    assert not found, "\n".join(map(str, found))


def test_nothing_is_allowed_that_is_not_done(record: Record) -> None:
    different = unused(record) ^ set(UNUSED)
    assert not different, "\n".join(map(str, sorted(different)))


def test_permission_too_many_would_be_found(record: Record) -> None:
    who, log = "user/twinmail-syncer-backup", "arn:aws:s3:::example-mail/manifest/*"
    extra = {"Statement": [{"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": log}]}
    more = {**record.policies, who: (*record.policies[who], extra)}
    assert unused(replace(record, policies=more)) - set(UNUSED) == {("syncer", "s3:DeleteObject", log)}


def test_permission_too_few_would_be_found(record: Record) -> None:
    (role,) = {one.who for one in record.needs if kind(one.who) == "function"}
    (policy,) = record.policies[role]
    for number in range(len(policy["Statement"])):
        rest = [one for place, one in enumerate(policy["Statement"]) if place != number]
        fewer = replace(record, policies={**record.policies, role: ({"Statement": rest},)})
        assert {one.who for one in refused(fewer)} == {role}


def entries(who: str, policy: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, str, str]]]:
    """*policy* taken apart: one action on one resource each, and what that is called for all of a kind."""
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                single = {"Statement": [{**statement, "Action": action, "Resource": resource}]}
                plain = resource
                for server in SERVERS:
                    plain = plain.replace(f"twinmail-{server}", "twinmail-SERVER")
                yield single, (kind(who), action, plain)
