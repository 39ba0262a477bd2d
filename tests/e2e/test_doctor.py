"""The doctor on a running system: well when it is well, and each break its own line."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.conftest import Running
from tests.e2e.test_secrets import wait_for
from tests.e2e.test_sending import Commands
from twinmail import durable_file
from twinmail.certificate import validity
from twinmail.local import pki
from twinmail.local.state import LOOPBACK, Claim
from twinmail.sync.certificate import serves


@pytest.fixture(scope="module")
def commands(running: Running) -> Iterator[Commands]:
    claim = Claim(running.state)
    assert claim.take()
    yield Commands(running)
    claim.release()


def examined(commands: Commands, *names: str) -> list[dict[str, Any]]:
    done = commands.run("doctor", *names, "--json")
    told = json.loads(done.stdout)
    problems = [one for one in told["findings"] if one["state"] == "problem"]
    assert done.returncode == int(bool(problems)) and all(one["remedy"] for one in problems), done.stderr
    return list(told["findings"])


def test_a_system_that_is_well_has_no_problem(running: Running, commands: Commands) -> None:
    running.assert_once("ann", running.sender.send(b"Subject: well\r\n\r\n", ["ann@example.org"]))
    found = examined(commands)
    bad = [one for one in found if one["state"] not in ("ok", "not here", "warning")]
    assert not bad
    checks = {one["check"] for one in found}
    assert {"stack", "rules", "bucket", "queues", "servers", "ports", "certificates", "clock"} <= checks
    text = commands.run("doctor")
    assert text.returncode == 0 and "– dns: a local system has no names" in text.stdout


def undone(ask: Callable[[], Any], undo: Callable[[], Any]) -> Any:
    @contextmanager
    def run() -> Iterator[None]:
        ask()
        try:
            yield
        finally:
            undo()

    return run()


def signed(running: Running, name: str, days: int) -> dict[str, bytes]:
    """A certificate of the system's own authority for *name*, which ends in *days*."""
    ca = x509.load_pem_x509_certificate((running.state.tls / pki.CA).read_bytes())
    ca_key = serialization.load_pem_private_key((running.state.tls / pki.CA_KEY).read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key, end = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=90))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {pki.CERTIFICATE: certificate.public_bytes(pem), pki.KEY: secret}


def breaks(running: Running) -> dict[str, tuple[str, Any, str]]:
    """By name: the check, what breaks and mends it, and what must be said."""
    session, config = running.system.session(), running.system.config
    ses, s3, sns, sqs = map(session.client, ("ses", "s3", "sns", "sqs"))
    url = sqs.get_queue_url(QueueName=config.queue("backup"))["QueueUrl"]
    dead = sqs.get_queue_url(QueueName=config.dead_letter_queue)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    policy = s3.get_bucket_policy(Bucket=config.bucket)["Policy"]
    subscription = next(
        one
        for page in sns.get_paginator("list_subscriptions").paginate()
        for one in page["Subscriptions"]
        if one["Endpoint"] == attributes["QueueArn"]
    )
    notification = s3.get_bucket_notification_configuration(Bucket=config.bucket)
    notification.pop("ResponseMetadata")

    def versions(status: str) -> Callable[[], Any]:
        return lambda: s3.put_bucket_versioning(
            Bucket=config.bucket, VersioningConfiguration={"Status": status}
        )

    def queue_policy(text: str) -> Callable[[], Any]:
        return lambda: sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": text})

    late = sqs.get_queue_url(QueueName=config.arrivals_queue)["QueueUrl"]
    arrivals = sqs.get_queue_attributes(QueueUrl=late, AttributeNames=["Policy"])["Attributes"]

    nobody = json.dumps({"Version": "2012-10-17", "Statement": []})

    def arrivals_policy(text: str) -> Callable[[], Any]:
        return lambda: sqs.set_queue_attributes(QueueUrl=late, Attributes={"Policy": text})

    def subscribe() -> None:
        sns.subscribe(
            TopicArn=subscription["TopicArn"],
            Protocol="sqs",
            Endpoint=attributes["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )

    def unsubscribe() -> None:
        now = next(
            one
            for page in sns.get_paginator("list_subscriptions").paginate()
            for one in page["Subscriptions"]
            if one["Endpoint"] == attributes["QueueArn"]
        )
        sns.unsubscribe(SubscriptionArn=now["SubscriptionArn"])

    def mend_syncer() -> None:
        running.system.start_syncer("backup")
        running.system.wait_for_syncer("backup")

    def mend_dovecot() -> None:
        running.system.start_dovecot("backup")
        running.system.wait_for_dovecot("backup")

    tls = running.state.settings("backup") / "tls"
    port = running.system.ports["backup-imaps"]
    good = {name: (tls / name).read_bytes() for name in (pki.CERTIFICATE, pki.KEY)}

    def serve(files: dict[str, bytes]) -> None:
        """Another certificate: a restarted Dovecot reads it at once, whatever the syncer thinks of it."""
        for name in (pki.KEY, pki.CERTIFICATE):
            durable_file.write(tls / name, files[name], mode=0o600)
        running.system.runtime.prepare_volume(tls)
        running.system.stop_container("backup-dovecot")
        running.system.start_dovecot("backup")
        wait_for(lambda: serves((LOOPBACK, port)) == validity.leaf(files[pki.CERTIFICATE]))

    statements = json.loads(attributes["Policy"])
    statements["Statement"][0]["Condition"] = {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:x:1:other"}}
    return {
        "rule set": (
            "rules",
            undone(
                lambda: ses.set_active_receipt_rule_set(),
                lambda: ses.set_active_receipt_rule_set(RuleSetName=config.rule_set),
            ),
            "no rule set is active",
        ),
        "bucket policy": (
            "bucket",
            undone(
                lambda: s3.delete_bucket_policy(Bucket=config.bucket),
                lambda: s3.put_bucket_policy(Bucket=config.bucket, Policy=policy),
            ),
            "does not let SES's rule",
        ),
        "versions": ("bucket", undone(versions("Suspended"), versions("Enabled")), "keeps no versions"),
        "notifications": (
            "bucket",
            undone(
                lambda: s3.put_bucket_notification_configuration(
                    Bucket=config.bucket, NotificationConfiguration={}
                ),
                lambda: s3.put_bucket_notification_configuration(
                    Bucket=config.bucket, NotificationConfiguration=notification
                ),
            ),
            "tells nobody of new objects",
        ),
        "subscription": ("queues", undone(unsubscribe, subscribe), "is not subscribed"),
        "arrivals": (
            "queues",
            undone(arrivals_policy(nobody), arrivals_policy(arrivals["Policy"])),
            f"does not let the topic {config.arrivals_queue} send",
        ),
        "queue policy": (
            "queues",
            undone(queue_policy(json.dumps(statements)), queue_policy(attributes["Policy"])),
            "does not let the topic",
        ),
        "dead letters": (
            "dead-letters",
            undone(
                lambda: sqs.send_message(QueueUrl=dead, MessageBody="{}"),
                lambda: sqs.purge_queue(QueueUrl=dead),
            ),
            "events ended there",
        ),
        "syncer": (
            "servers",
            undone(lambda: running.system.stop_container("backup-syncer"), mend_syncer),
            "does not answer",
        ),
        "stopped port": (
            "ports",
            undone(lambda: running.system.stop_container("backup-dovecot"), mend_dovecot),
            "Connection refused",
        ),
        "wrong name": (
            "certificates",
            undone(lambda: serve(signed(running, "other.example.com", 90)), lambda: serve(good)),
            "certificate is not valid for",
        ),
        "expired": (
            "certificates",
            undone(lambda: serve(signed(running, "backup.example.org", -1)), lambda: serve(good)),
            "certificate has expired",
        ),
    }


def test_each_break_has_its_own_line(running: Running, commands: Commands) -> None:
    for name, (check, broken, said) in breaks(running).items():
        with broken:
            bad = [one for one in examined(commands, check) if one["state"] == "problem"]
        assert any(said in one["text"] for one in bad), f"{name}: {bad}"
        assert not [one for one in examined(commands, check) if one["state"] == "problem"], name


def test_an_unknown_check_is_one_line(commands: Commands) -> None:
    done = commands.run("doctor", "--only", "nothing")
    assert done.returncode == 1 and done.stderr.startswith("--only nothing: expected one of configuration")
