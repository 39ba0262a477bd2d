"""The SES SMTP endpoint: who may send, what SES makes of the message, and how it comes back in."""

import json
import smtplib
import uuid
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.aws_account import REGION, Account, rule
from tests.contract.edge.conftest import Activate
from tests.edge_process import Client, EdgeProcess, running_edge
from twinmail_localstack.edge.submission import smtp_password

PASSWORD = smtp_password("test", REGION)


@pytest.fixture
def submitter(edge: EdgeProcess) -> Iterator[Client]:
    with Client(edge.submission) as connected:
        yield connected


def test_nothing_but_starttls_is_possible_in_the_clear(submitter: Client) -> None:
    assert "starttls" in submitter.esmtp_features
    assert "auth" not in submitter.esmtp_features
    assert submitter.docmd("AUTH", "PLAIN AHRlc3QAdGVzdA==") == (530, b"Must issue a STARTTLS command first")
    assert submitter.docmd("MAIL", "FROM:<ann@example.org>")[0] == 530


def test_only_the_derived_password_opens(submitter: Client) -> None:
    submitter.encrypt()
    assert set(submitter.esmtp_features["auth"].split()) == {"LOGIN", "PLAIN"}
    assert submitter.docmd("MAIL", "FROM:<ann@example.org>")[0] == 530
    for password in ("test", "", smtp_password("test", "us-east-1")):
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            submitter.login("test", password)
        assert refused.value.smtp_code == 535
    assert submitter.login("test", PASSWORD) == (235, b"Authentication successful.")


def test_auth_login_works_as_plain_does(submitter: Client) -> None:
    submitter.encrypt()
    submitter.user, submitter.password = "test", PASSWORD
    assert submitter.auth("LOGIN", submitter.auth_login)[0] == 235


def test_keys_may_be_given_by_file(account: Account, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"AKIAEXAMPLE": "secret"}))
    with running_edge(account.endpoint, ["--smtp-keys", str(keys)]) as own:
        for name, secret in (("AKIAEXAMPLE", "secret"), ("test", "test")):
            with Client(own.submission) as session:
                session.encrypt()
                assert session.login(name, smtp_password(secret, REGION))[0] == 235


def test_a_sender_that_is_not_verified_is_rejected(submitter: Client) -> None:
    submitter.encrypt()
    submitter.login("test", PASSWORD)
    code, text = submitter.transaction(b"Subject: x\r\n\r\n", ["x@example.com"], "me@not-verified.example")
    assert code == 554
    assert text.startswith("Message rejected: ")


def test_mail_to_ourselves_comes_back_in_with_the_ids_of_ses(
    account: Account, submitter: Client, activate: Activate, edge: EdgeProcess
) -> None:
    domain = f"{uuid.uuid4().hex}.example.org"
    account.ses.verify_domain_identity(Domain=domain)
    topic, queue = account.make_topic()
    activate(rule("all", [domain], [account.store("returned/", TopicArn=topic)], ScanEnabled=True))
    submitter.encrypt()
    submitter.login("test", PASSWORD)
    content = (
        f"From: ann@{domain}\r\nTo: bob@{domain}\r\nBcc: secret@{domain}\r\nMessage-ID: <mine@example.org>\r\n"
        "Subject: Grüße\r\n\r\nbody\r\n.\r\n"
    ).encode()
    recipients = [f"bob@{domain}", "far@example.com", f"secret@{domain}"]
    message_id = submitter.accepted(content, recipients, f"ann@{domain}")
    found = account.receive(queue)
    receipt, mail = found["receipt"], found["mail"]
    assert receipt["recipients"] == [f"bob@{domain}", f"secret@{domain}"]
    assert {receipt[f"{name}Verdict"]["status"] for name in ("spam", "virus", "spf", "dkim", "dmarc")} == {
        "PASS"
    }
    assert mail["source"] == f"{message_id}@{REGION}.amazonses.com"
    assert mail["messageId"] != message_id
    stored = account.get(f"returned/{mail['messageId']}")
    parsed = message_from_bytes(stored)
    assert parsed["Message-ID"] == f"<{message_id}@{REGION}.amazonses.com>"
    assert parsed["Return-Path"] == f"<{message_id}@{REGION}.amazonses.com>"
    assert parsed["Bcc"] is None
    assert b"secret" not in stored
    assert stored.endswith(b"\r\n\r\nbody\r\n.\r\n")
    # Nothing is delivered elsewhere, but SES has it.
    assert next(one for one in account.sent() if one["Id"] == message_id)["Source"] == f"ann@{domain}"


def test_more_than_50_recipients_are_too_many(submitter: Client) -> None:
    submitter.encrypt()
    submitter.login("test", PASSWORD)
    submitter.docmd("MAIL", "FROM:<ann@example.org>")
    codes = [submitter.docmd("RCPT", f"TO:<u{number}@example.org>")[0] for number in range(51)]
    assert codes == [250] * 50 + [452]
