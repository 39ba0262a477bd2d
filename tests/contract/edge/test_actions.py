"""The actions of receipt rules, in their order, with a real bucket, function, topic and queue."""

import json
import uuid

import pytest

from tests.aws_account import REGION, Account, bounce_to, rule
from tests.contract.edge.conftest import Activate
from tests.edge_process import Client, EdgeProcess, running_edge
from twinmail.chaos.proxy import Proxy
from twinmail.chaos.proxy_rule import Effect, Rule
from twinmail_localstack.edge.verdict import EICAR, GTUBE


def test_actions_are_performed_in_order(account: Account, client: Client, activate: Activate) -> None:
    header = [
        {"AddHeaderAction": {"HeaderName": f"X-Step-{one}", "HeaderValue": "done"}} for one in ("One", "Two")
    ]
    activate(
        rule("first", ["example.org"], [account.store("a/"), header[0], account.store("b/")]),
        rule("second", ["ann@example.org"], [header[1], account.store("c/")]),
        rule("other", ["example.net"], [account.store("d/")]),
    )
    ses_id = client.accepted(b"Subject: x\r\n\r\n", ["ann@example.org"])
    texts = [account.get(f"{prefix}/{ses_id}") for prefix in "abc"]
    assert [(text.count(b"X-Step-One: done\r\n"), text.count(b"X-Step-Two: done\r\n")) for text in texts] == [
        (0, 0),
        (1, 0),
        (1, 1),
    ]
    assert account.objects("d/") == []


def test_stop_ends_the_rule_set_and_notifies(
    account: Account, client: Client, activate: Activate, edge: EdgeProcess
) -> None:
    topic, queue = account.make_topic()
    activate(
        rule(
            "first",
            ["example.org"],
            [account.store("stop-a/"), {"StopAction": {"Scope": "RuleSet", "TopicArn": topic}}],
        ),
        rule("second", ["example.org"], [account.store("stop-b/")]),
    )
    ses_id = client.accepted(b"Subject: x\r\n\r\n", ["ann@example.org"])
    assert edge.wait_for("performed", ses_id=ses_id)["actions"] == ["first:S3", "first:Stop"]
    found = account.receive(queue)
    assert found["receipt"]["action"] == {"type": "Stop", "topicArn": topic}
    assert found["mail"]["messageId"] == ses_id
    assert "content" not in found
    assert account.objects("stop-") == [f"stop-a/{ses_id}"]


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        ("CONTINUE", ["first:S3", "first:Lambda", "first:S3", "second:S3"]),
        ("STOP_RULE", ["first:S3", "first:Lambda", "second:S3"]),
        ("STOP_RULE_SET", ["first:S3", "first:Lambda"]),
        ("nonsense", ["first:S3", "first:Lambda", "first:S3", "second:S3"]),
        ("", ["first:S3", "first:Lambda", "first:S3", "second:S3"]),
    ],
)
def test_a_function_may_stop_the_rule_or_the_set(
    account: Account,
    client: Client,
    activate: Activate,
    edge: EdgeProcess,
    function: str,
    disposition: str,
    expected: list[str],
) -> None:
    invoke = {"LambdaAction": {"FunctionArn": function, "InvocationType": "RequestResponse"}}
    activate(
        rule("first", ["example.org"], [account.store("1/"), invoke, account.store("2/")]),
        rule("second", ["example.org"], [account.store("3/")]),
    )
    ses_id = client.accepted(f"Subject: {disposition}\r\n\r\n".encode(), ["ann@example.org"])
    assert edge.wait_for("performed", ses_id=ses_id)["actions"] == expected
    assert account.objects(f"events/{ses_id}")
    stored = [bool(account.objects(f"{prefix}/{ses_id}")) for prefix in (1, 2, 3)]
    assert stored == [True, expected.count("first:S3") == 2, "second:S3" in expected]


def test_one_event_a_rule_with_the_envelope_it_matched(
    account: Account, client: Client, activate: Activate, function: str
) -> None:
    activate(
        rule(
            "all",
            ["example.org"],
            [account.store(), {"LambdaAction": {"FunctionArn": function}}],
            ScanEnabled=True,
        ),
        rule("net", ["example.net"], [account.store("net/")]),
    )
    # Only the envelope has the blind copies; the header names somebody who gets nothing.
    crowd = [f"u{number:02}@example.org" for number in range(40)]
    content = (
        b"To: public@example.org\r\nFrom: Ann <ann@example.com>\r\nMessage-ID: <1@x>\r\n\r\nbody text\r\n"
    )
    ses_id = client.accepted(content, [*crowd, "one@example.net"], sender="")
    event = json.loads(account.get(f"events/{ses_id}"))
    [record] = event["Records"]
    assert (record["eventSource"], record["eventVersion"]) == ("aws:ses", "1.0")
    mail, receipt = record["ses"]["mail"], record["ses"]["receipt"]
    assert receipt["recipients"] == crowd
    assert receipt["action"] == {"type": "Lambda", "functionArn": function, "invocationType": "Event"}
    assert {
        name: receipt[f"{name}Verdict"]["status"] for name in ("spam", "virus", "spf", "dkim", "dmarc")
    } == {
        "spam": "PASS",
        "virus": "PASS",
        "spf": "GRAY",
        "dkim": "GRAY",
        "dmarc": "GRAY",
    }
    assert mail["destination"] == ["public@example.org"]
    assert mail["source"] == ""
    assert mail["commonHeaders"]["from"] == ["Ann <ann@example.com>"]
    assert mail["headersTruncated"] is False
    assert [one["name"] for one in mail["headers"]][:2] == ["Return-Path", "Received"]
    assert "body text" not in json.dumps(event)
    assert account.bucket not in json.dumps(event)
    stored = account.get(f"incoming/{ses_id}")
    assert b"u07@example.org" not in stored
    assert account.get(f"net/{ses_id}") == stored


@pytest.mark.parametrize(
    ("body", "scan", "spam", "virus"),
    [
        (GTUBE, True, "FAIL", "PASS"),
        (EICAR, True, "PASS", "FAIL"),
        (GTUBE + EICAR, False, "DISABLED", "DISABLED"),
    ],
    ids=["spam", "virus", "not scanned"],
)
def test_scanning_gives_verdicts(
    account: Account, client: Client, activate: Activate, body: bytes, scan: bool, spam: str, virus: str
) -> None:
    topic, queue = account.make_topic()
    activate(rule("all", ["example.org"], [account.store(TopicArn=topic)], ScanEnabled=scan))
    ses_id = client.accepted(b"Subject: x\r\n\r\n" + body, ["ann@example.org"])
    receipt = account.receive(queue)["receipt"]
    assert (receipt["spamVerdict"]["status"], receipt["virusVerdict"]["status"]) == (spam, virus)
    assert receipt["action"]["objectKey"] == f"incoming/{ses_id}"
    expected = f"X-SES-Spam-Verdict: {spam}\r\nX-SES-Virus-Verdict: {virus}\r\n"
    assert expected.encode() in account.get(f"incoming/{ses_id}")


def test_sns_action_publishes_the_content(account: Account, client: Client, activate: Activate) -> None:
    topic, queue = account.make_topic()
    activate(rule("all", ["example.org"], [{"SNSAction": {"TopicArn": topic, "Encoding": "UTF-8"}}]))
    client.accepted("Subject: x\r\n\r\nGrüße\r\n".encode(), ["ann@example.org"])
    found = account.receive(queue)
    assert found["notificationType"] == "Received"
    assert found["content"].endswith("Subject: x\r\n\r\nGrüße\r\n")


def test_what_is_too_large_for_sns_bounces(account: Account, client: Client, activate: Activate) -> None:
    topic, _ = account.make_topic()
    account.ses.verify_domain_identity(Domain=f"inbound-smtp.{REGION}.amazonaws.com")
    activate(rule("all", ["example.org"], [{"SNSAction": {"TopicArn": topic, "Encoding": "UTF-8"}}]))
    sender = f"{uuid.uuid4().hex}@example.com"
    client.accepted(b"Subject: x\r\n\r\n" + b"x" * 200_000, ["ann@example.org"], sender)
    assert "Status: 5.3.4" in bounce_to(account, sender)


def test_bounce_action_tells_the_sender_and_goes_on(
    account: Account, client: Client, activate: Activate
) -> None:
    account.ses.verify_domain_identity(Domain="example.org")
    action = {
        "BounceAction": {
            "SmtpReplyCode": "550",
            "StatusCode": "5.1.1",
            "Message": "Mailbox does not exist",
            "Sender": "mailer-daemon@example.org",
        }
    }
    activate(rule("all", ["example.org"], [action, account.store("bounced/")]))
    sender = f"{uuid.uuid4().hex}@example.com"
    ses_id = client.accepted(b"Subject: x\r\n\r\n", ["gone@example.org"], sender)
    report = bounce_to(account, sender)
    assert "Final-Recipient: rfc822; gone@example.org" in report
    assert "Status: 5.1.1" in report
    account.get(f"bounced/{ses_id}")
    # A bounce is not bounced.
    before = len(account.sent())
    ses_id = client.accepted(b"Subject: x\r\n\r\n", ["gone@example.org"], "")
    account.get(f"bounced/{ses_id}")
    assert len(account.sent()) == before


def test_without_a_place_to_store_it_the_sender_keeps_the_message(
    account: Account, client: Client, activate: Activate
) -> None:
    activate(rule("all", ["example.org"], [{"S3Action": {"BucketName": f"missing-{uuid.uuid4().hex[:12]}"}}]))
    code, text = client.transaction(b"Subject: x\r\n\r\n", ["ann@example.org"])
    assert (code, text) == (451, "4.3.0 Temporary service failure")


def test_what_the_sender_keeps_is_not_stored_either(account: Account, activate: Activate) -> None:
    activate(rule("all", ["example.org"], [account.store("twice/")]))
    proxy = Proxy(int(account.endpoint.rpartition(":")[2])).start()
    with running_edge(proxy.url, ["--region", REGION]) as edge, Client(edge.inbound) as client:
        # All attempts did store it, which no answer says.
        proxy.add(Rule("s3-answer-lost", Effect.LOST, "s3", "PutObject", count=3))
        assert client.transaction(b"Subject: x\r\n\r\n", ["ann@example.org"])[0] == 451
        edge.wait_for("withdrawn")
        assert proxy.counts == {"s3-answer-lost": 3}
        assert account.objects("twice/") == []
        ses_id = client.accepted(b"Subject: x\r\n\r\n", ["ann@example.org"])
    assert account.objects("twice/") == [f"twice/{ses_id}"]
    proxy.stop()


def test_an_action_after_the_first_store_is_retried_until_it_works(
    account: Account, client: Client, activate: Activate, edge: EdgeProcess
) -> None:
    later = f"edge-later-{uuid.uuid4().hex[:12]}"
    activate(
        rule(
            "all",
            ["example.org"],
            [account.store(), {"S3Action": {"BucketName": later}}, account.store("after/")],
        )
    )
    ses_id = client.accepted(b"Subject: x\r\n\r\n", ["ann@example.org"])
    edge.wait_for("action failed", ses_id=ses_id, failures=2)
    assert account.objects(f"after/{ses_id}") == []
    account.make_bucket(later)
    assert account.get(ses_id, later) == account.get(f"after/{ses_id}") == account.get(f"incoming/{ses_id}")


def test_stored_message_is_accepted_although_its_topic_cannot_be_told(
    account: Account, client: Client, activate: Activate, edge: EdgeProcess
) -> None:
    name = f"edge-later-{uuid.uuid4().hex[:12]}"
    topic = f"arn:aws:sns:{REGION}:000000000000:{name}"
    activate(rule("all", ["example.org"], [account.store(TopicArn=topic), account.store("after/")]))
    ses_id = client.accepted(b"Subject: x\r\n\r\n", ["ann@example.org"])
    edge.wait_for("action failed", ses_id=ses_id, failures=2)
    assert account.objects(f"after/{ses_id}") == []
    account.client("sns").create_topic(Name=name)
    assert account.get(f"after/{ses_id}") == account.get(f"incoming/{ses_id}")
