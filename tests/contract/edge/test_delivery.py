"""What becomes of sent mail: SES's events about it, on the topic of its configuration set."""

import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.aws_account import REGION, Account, rule
from tests.contract.edge.conftest import Activate
from tests.edge_process import EdgeProcess
from twinmail.sending_event import read

SIMULATOR = "simulator.amazonses.com"


@dataclass
class Reports:
    """A configuration set that reports to a queue, for mail from one domain."""

    account: Account
    domain: str
    name: str
    queue: str

    def send(self, *recipients: str, body: bytes = b"body") -> str:
        fields = f"From: Ann <ann@{self.domain}>\r\nTo: {recipients[0]}\r\nMessage-ID: <mine@client>\r\n"
        message_id: str = self.account.ses.send_raw_email(
            Source=f"ann@{self.domain}",
            Destinations=list(recipients),
            RawMessage={"Data": f"{fields}Subject: Grüße\r\n\r\n".encode() + body + b"\r\n"},
            ConfigurationSetName=self.name,
        )["MessageId"]
        return message_id

    def next(self) -> dict[str, Any]:
        """The next event. They come in any order, as SNS's do."""
        return self.account.receive(self.queue)

    def events(self, count: int) -> dict[str, dict[str, Any]]:
        """The next *count* events, all different, by their type."""
        found = [self.next() for _ in range(count)]
        assert len({one["eventType"] for one in found}) == count
        return {one["eventType"]: one for one in found}


@pytest.fixture
def reports(account: Account, edge: EdgeProcess, activate: Activate) -> Reports:
    domain, name = f"{uuid.uuid4().hex}.example.org", f"set-{uuid.uuid4().hex[:8]}"
    account.ses.verify_domain_identity(Domain=domain)
    activate(rule("own", [f"bob@{domain}"], [account.store(f"{name}/")]))
    topic, queue = account.make_topic()
    account.ses.create_configuration_set(ConfigurationSet={"Name": name})
    # The destination is greeted when it is made, in words that are no event and no JSON.
    account.ses.create_configuration_set_event_destination(
        ConfigurationSetName=name,
        EventDestination={
            "Name": name,
            "Enabled": True,
            "MatchingEventTypes": ["send", "bounce", "complaint", "reject", "delivery"],
            "SNSDestination": {"TopicARN": topic},
        },
    )
    greeting = account.receive_text(queue)
    assert greeting.startswith("Successfully validated SNS topic")
    assert read({"Sns": {"Message": greeting}}) is None
    return Reports(account, domain, name, queue)


def test_send_tells_the_original_message_id_and_who_sent_it(reports: Reports) -> None:
    ses_id = reports.send("far@example.com")
    events = reports.events(2)
    assert set(events) == {"Send", "Delivery"}
    event = events["Send"]
    assert event["send"] == {}
    mail = event["mail"]
    assert (mail["messageId"], mail["source"]) == (ses_id, f"ann@{reports.domain}")
    assert {"name": "Message-ID", "value": "<mine@client>"} in mail["headers"]
    assert mail["commonHeaders"]["messageId"] == ses_id and mail["commonHeaders"]["subject"] == "Grüße"
    assert mail["tags"]["ses:configuration-set"] == [reports.name]
    assert mail["tags"]["ses:caller-identity"] == ["root"]
    assert mail["sourceArn"] == f"arn:aws:ses:{REGION}:000000000000:identity/{reports.domain}"


@pytest.mark.parametrize(
    ("recipient", "kind", "diagnostic"),
    [
        (f"bounce@{SIMULATOR}", "Permanent/General", "550 5.1.1 user unknown"),
        (f"bounce+label@{SIMULATOR}", "Permanent/General", "550 5.1.1 user unknown"),
        (f"suppressionlist@{SIMULATOR}", "Permanent/Suppressed", "suppressed"),
        (f"ooto@{SIMULATOR}", "Transient/General", ""),
        ("nobody@DOMAIN", "Permanent/General", "mailbox unavailable"),
    ],
)
def test_each_kind_of_bounce(reports: Reports, recipient: str, kind: str, diagnostic: str) -> None:
    address = recipient.replace("DOMAIN", reports.domain)
    ses_id = reports.send(address)
    events = reports.events(2)
    assert set(events) == {"Send", "Bounce"}
    event = events["Bounce"]
    bounce = event["bounce"]
    assert f"{bounce['bounceType']}/{bounce['bounceSubType']}" == kind
    (one,) = bounce["bouncedRecipients"]
    assert one["emailAddress"] == address and diagnostic in one.get("diagnosticCode", "")
    assert event["mail"]["messageId"] == ses_id and bounce["feedbackId"]


def test_complaint_comes_beside_the_delivery(reports: Reports) -> None:
    reports.send(f"complaint@{SIMULATOR}")
    assert set(reports.events(3)) == {"Send", "Delivery", "Complaint"}


def test_each_recipient_has_a_fate_of_its_own(reports: Reports) -> None:
    reports.send(f"bob@{reports.domain}", f"bounce@{SIMULATOR}", f"success@{SIMULATOR}")
    events = [reports.next() for _ in range(4)]
    assert sorted(one["eventType"] for one in events) == ["Bounce", "Delivery", "Delivery", "Send"]
    assert reports.account.get(reports.account.first_key(f"{reports.name}/"))


def test_virus_is_rejected_and_goes_nowhere(reports: Reports) -> None:
    # The EICAR test file, in two parts so that a scanner does not stop this source file.
    eicar = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    reports.send(f"bob@{reports.domain}", body=eicar)
    events = reports.events(2)
    assert set(events) == {"Send", "Reject"}
    assert events["Reject"]["reject"] == {"reason": "Bad content"}
    assert not reports.account.objects(f"{reports.name}/")
