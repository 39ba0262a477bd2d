"""The SES SMTP endpoint: who may send, as whom, and what SES makes of the message."""

import json
import smtplib
import ssl
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any

import pytest

from tests.aws_account import REGION, Account, rule
from tests.contract.edge.conftest import Activate
from tests.edge_process import Client, EdgeProcess
from twinmail.smtp_credentials import smtp_password

PASSWORD = smtp_password("test", REGION)


@dataclass(frozen=True)
class User:
    """An IAM user who may send from *address* alone, with one SMTP credential."""

    name: str
    arn: str
    domain: str
    address: str
    key: str
    password: str


def policy(*addresses: str) -> str:
    statement = {
        "Effect": "Allow",
        "Action": "ses:SendRawEmail",
        "Resource": "*",
        "Condition": {
            "StringLike": {"ses:FromAddress": list(addresses)},
            "StringLikeIfExists": {"ses:FeedbackAddress": list(addresses)},
        },
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def iam(account: Account) -> Any:
    return account.client("iam")


@pytest.fixture
def user(account: Account, iam: Any) -> User:
    domain, name = f"{uuid.uuid4().hex}.example.org", f"smtp-{uuid.uuid4().hex[:8]}"
    account.ses.verify_domain_identity(Domain=domain)
    arn = iam.create_user(UserName=name)["User"]["Arn"]
    address = f"ann@{domain}"
    iam.put_user_policy(UserName=name, PolicyName="send", PolicyDocument=policy(address, f"ann+*@{domain}"))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    password = smtp_password(key["SecretAccessKey"], REGION)
    return User(name, arn, domain, address, key["AccessKeyId"], password)


class TlsClient(Client):
    """A client of the port with TLS from the first octet."""

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(super()._get_socket(host, port, timeout), server_hostname=host)  # type: ignore[misc]


@pytest.fixture(params=["starttls", "tls"])
def submitter(edge: EdgeProcess, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of either port, encrypted and not logged in."""
    with Client(edge.submission) if request.param == "starttls" else TlsClient(edge.submissions) as client:
        if request.param == "starttls":
            client.encrypt()
        yield client


@pytest.fixture
def sender(edge: EdgeProcess, user: User) -> Iterator[Client]:
    """A client logged in as the user."""
    with Client(edge.submission) as client:
        client.encrypt()
        client.login(user.key, user.password)
        yield client


def message(from_: str, to: str = "far@example.com", *fields: str) -> bytes:
    lines = [f"From: {from_}", f"To: {to}", "Subject: x", *fields, "", "body", ""]
    return "\r\n".join(lines).encode()


def test_nothing_but_starttls_is_possible_in_the_clear(edge: EdgeProcess) -> None:
    with Client(edge.submission) as client:
        assert "starttls" in client.esmtp_features
        assert "auth" not in client.esmtp_features
        plain = client.docmd("AUTH", "PLAIN AHRlc3QAdGVzdA==")
        assert plain == (530, b"Must issue a STARTTLS command first")
        assert client.docmd("MAIL", "FROM:<ann@example.org>")[0] == 530


def test_only_the_derived_password_of_an_active_key_opens(submitter: Client, user: User, iam: Any) -> None:
    assert set(submitter.esmtp_features["auth"].split()) == {"LOGIN", "PLAIN"}
    assert "starttls" not in submitter.esmtp_features
    assert submitter.docmd("MAIL", "FROM:<ann@example.org>")[0] == 530
    wrong = [(user.key, "test"), (user.key, ""), (user.name, user.password), ("nobody", user.password)]
    wrong += [("test", smtp_password("test", "us-east-1"))]
    for name, password in wrong:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            submitter.login(name, password)
        assert (refused.value.smtp_code, refused.value.smtp_error) == (
            535,
            b"Authentication Credentials Invalid",
        )
    iam.update_access_key(UserName=user.name, AccessKeyId=user.key, Status="Inactive")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        submitter.login(user.key, user.password)
    iam.update_access_key(UserName=user.name, AccessKeyId=user.key, Status="Active")
    assert submitter.login(user.key, user.password) == (235, b"Authentication successful.")


def test_auth_login_works_as_plain_does(submitter: Client, user: User) -> None:
    submitter.user, submitter.password = user.key, user.password
    assert submitter.auth("LOGIN", submitter.auth_login)[0] == 235


def test_key_that_is_removed_is_refused_also_in_an_open_session(
    edge: EdgeProcess, sender: Client, user: User, iam: Any
) -> None:
    sender.accepted(message(user.address), ["far@example.com"], user.address)
    iam.delete_access_key(UserName=user.name, AccessKeyId=user.key)
    assert sender.transaction(message(user.address), ["far@example.com"], user.address)[0] == 554
    with Client(edge.submission) as client:
        client.encrypt()
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(user.key, user.password)


Foreign = Callable[[User], tuple[str, str]]


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(lambda user: (f"bob@{user.domain}", user.address), id="field"),
        pytest.param(lambda user: (user.address, f"bob@{user.domain}"), id="envelope"),
        pytest.param(lambda user: (f'"{user.address}" <bob@{user.domain}>', user.address), id="name"),
        pytest.param(lambda user: (f"{user.address}, bob@{user.domain}", user.address), id="second address"),
        pytest.param(lambda user: (f"{user.address}\r\nFrom: bob@{user.domain}", user.address), id="twice"),
        pytest.param(lambda user: (f"bob@{user.domain} ({user.address})", user.address), id="comment"),
        pytest.param(lambda user: (f"ANN@{user.domain}", user.address), id="case"),
    ],
)
def test_address_of_somebody_else_is_refused(
    sender: Client, user: User, account: Account, foreign: Foreign
) -> None:
    from_, envelope = foreign(user)
    code, text = sender.transaction(message(from_), ["far@example.com"], envelope)
    assert code == 554
    assert text == (
        f"Access denied: User `{user.arn}' is not authorized to perform `ses:SendRawEmail' on resource "
        f"`arn:aws:ses:{REGION}:000000000000:identity/{user.domain}'"
    )
    assert not [one for one in account.sent() if user.domain in one["Source"]]


def test_own_address_may_have_a_name_and_a_tag(sender: Client, user: User) -> None:
    tagged = f"ann+shop@{user.domain}"
    sender.accepted(message(f"Änn <{tagged}>"), ["far@example.com"], tagged)


def test_change_of_the_policy_counts_at_once(sender: Client, user: User, iam: Any) -> None:
    other = f"bob@{user.domain}"
    assert sender.transaction(message(other), ["far@example.com"], other)[0] == 554
    iam.put_user_policy(UserName=user.name, PolicyName="more", PolicyDocument=policy(other))
    assert sender.transaction(message(other), ["far@example.com"], other)[0] == 250


@pytest.mark.parametrize("field", ["Sender", "Return-Path"])
def test_addresses_that_are_not_verified_are_rejected(edge: EdgeProcess, user: User, field: str) -> None:
    with Client(edge.submission) as client:
        client.encrypt()
        client.login("test", PASSWORD)
        stranger = "me@not-verified.example"
        answers = [
            client.transaction(b"Subject: x\r\n\r\n", ["x@example.com"], stranger),
            client.transaction(message(stranger), ["x@example.com"], user.address),
            client.transaction(
                message(user.address, "x@example.com", f"{field}: <{stranger}>"),
                ["x@example.com"],
                user.address,
            ),
        ]
    assert (
        answers
        == [
            (
                554,
                "Message rejected: Email address is not verified. The following identities failed the check in "
                f"region EU-CENTRAL-1: {stranger}",
            )
        ]
        * 3
    )


def test_null_sender_and_unreadable_from_are_no_sender(sender: Client, user: User) -> None:
    assert sender.docmd("MAIL", "FROM:<>") == (501, b"Invalid MAIL FROM address provided")
    code, text = sender.transaction(message("nobody"), ["far@example.com"], user.address)
    assert (code, text) == (554, "Transaction failed: Missing final '@domain'")


def test_mail_to_ourselves_comes_back_in_with_the_ids_of_ses(
    account: Account, sender: Client, user: User, activate: Activate
) -> None:
    domain = user.domain
    topic, queue = account.make_topic()
    activate(rule("all", [domain], [account.store("returned/", TopicArn=topic)], ScanEnabled=True))
    content = (
        f"From: ann@{domain}\r\nTo: bob@{domain}\r\nBcc: secret@{domain}\r\nMessage-ID: <mine@example.org>\r\n"
        "Subject: Grüße\r\n\r\nbody\r\n.\r\n"
    ).encode()
    recipients = [f"bob@{domain}", "far@example.com", f"secret@{domain}"]
    message_id = sender.accepted(content, recipients, f"ann@{domain}")
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


def test_what_the_api_sends_comes_back_in_too_whatever_octets_it_has(
    account: Account, user: User, activate: Activate
) -> None:
    activate(rule("all", [user.domain], [account.store("api/")]))
    body = bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"")
    data = message(user.address, f"bob@{user.domain}") + body + b"\r\n"
    account.ses.send_raw_email(RawMessage={"Data": data})
    key = account.first_key("api/")
    assert account.get(key).endswith(b"body\r\n" + body + b"\r\n")


def test_the_api_keeps_to_the_same_rules(account: Account, user: User, iam: Any) -> None:
    made = iam.create_access_key(UserName=user.name)["AccessKey"]
    ses = account.client("ses", made["AccessKeyId"], made["SecretAccessKey"])
    send = {"Source": user.address, "Destinations": ["far@example.com"]}
    assert ses.send_raw_email(**send, RawMessage={"Data": message(user.address)})["MessageId"]
    with pytest.raises(ses.exceptions.ClientError, match=r"AccessDenied.*not authorized"):
        ses.send_raw_email(**send, RawMessage={"Data": message(f"bob@{user.domain}")})
    with pytest.raises(ses.exceptions.ClientError, match=r"MessageRejected.*not verified"):
        account.ses.send_raw_email(**send, RawMessage={"Data": message("x@not-verified.example")})
    with pytest.raises(ses.exceptions.ClientError, match="Recipient count exceeds 50"):
        ses.send_raw_email(
            Source=user.address,
            Destinations=[f"u{number}@example.com" for number in range(51)],
            RawMessage={"Data": message(user.address)},
        )
    large = message(user.address) + b"x" * (7 * 1024 * 1024)
    assert ses.send_raw_email(**send, RawMessage={"Data": large})["MessageId"]


def test_40_mb_pass_and_one_octet_more_does_not(sender: Client, user: User) -> None:
    head = message(user.address)
    line = b"x" * 998 + b"\r\n"
    room = 40 * 1024 * 1024 - len(head)
    content = head + line * (room // 1000) + b"y" * (room % 1000 - 2) + b"\r\n"
    assert sender.transaction(content, ["far@example.com"], user.address)[0] == 250
    code, text = sender.transaction(content + b"z\r\n", ["far@example.com"], user.address)
    assert code == 552 and "too long" in text


def test_more_than_50_recipients_are_too_many(sender: Client, user: User) -> None:
    sender.docmd("MAIL", f"FROM:<{user.address}>")
    codes = [sender.docmd("RCPT", f"TO:<u{number}@example.org>")[0] for number in range(51)]
    assert codes == [250] * 50 + [452]
