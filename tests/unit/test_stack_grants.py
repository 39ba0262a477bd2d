"""Who may call whom in the stack: every way an event takes is open to the one that takes it, and no other is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import CONFIG
from twinmail.stack_template import render

TEMPLATE = Path(__file__).parents[2] / "lambda" / "stack.yaml"
SERVERS = {name: replace(one, submission=True) for name, one in CONFIG.servers.items()}

Way = tuple[str, str, str]
"""The service that calls, the logical name of what it calls, and on whose behalf: a logical name, or empty."""


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = render(TEMPLATE.read_text(), replace(CONFIG, servers=SERVERS))["Resources"]
    return found


def of(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: one["Properties"] for name, one in resources.items() if one["Type"] == f"AWS::{kind}"}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def logical(reference: Any) -> str:
    """What ``Ref`` or ``Fn::GetAtt`` refers to."""
    return str(reference["Ref"] if "Ref" in reference else reference["Fn::GetAtt"][0])


def ways(resources: dict[str, Any]) -> Iterator[Way]:
    """Those that events take."""
    for name, rule in of(resources, "Events::Rule").items():
        for one in rule["Targets"]:
            yield "events.amazonaws.com", logical(one["Arn"]), name
    for one in of(resources, "SNS::Subscription").values():
        if one["Protocol"] != "email":
            yield "sns.amazonaws.com", logical(one["Endpoint"]), logical(one["TopicArn"])
    for one in of(resources, "S3::Bucket").values():
        for to in one["NotificationConfiguration"]["TopicConfigurations"]:
            yield "s3.amazonaws.com", logical(to["Topic"]), ""
    for one in of(resources, "SES::ReceiptRule").values():
        for action in one["Rule"]["Actions"]:
            for target in ("TopicArn", "FunctionArn"):
                for values in action.values():
                    if target in values:
                        yield "ses.amazonaws.com", logical(values[target]), ""
    for one in of(resources, "SES::ConfigurationSetEventDestination").values():
        yield "ses.amazonaws.com", logical(one["EventDestination"]["SnsDestination"]["TopicARN"]), ""
    for one in of(resources, "CloudWatch::Alarm").values():
        for to in one["AlarmActions"]:
            yield "cloudwatch.amazonaws.com", logical(to), ""


def grants(resources: dict[str, Any]) -> Iterator[Way]:
    """Those that are open."""
    for one in of(resources, "Lambda::Permission").values():
        assert one["Action"] == "lambda:InvokeFunction"
        yield one["Principal"], logical(one["FunctionName"]), source(one["SourceArn"])
    for kind, action in (("SQS::QueuePolicy", "sqs:SendMessage"), ("SNS::TopicPolicy", "sns:Publish")):
        for one in of(resources, kind).values():
            for statement in one["PolicyDocument"]["Statement"]:
                if statement["Effect"] == "Allow":
                    assert statement["Action"] == action
                    arns = [
                        values["aws:SourceArn"]
                        for values in statement["Condition"].values()
                        if "aws:SourceArn" in values
                    ]
                    (arn,) = arns
                    yield statement["Principal"]["Service"], logical(statement["Resource"]), source(arn)


def source(arn: Any) -> str:
    """The logical name, or empty where the source is named by its text."""
    return "" if "Fn::Sub" in arn else logical(arn)


def test_every_way_of_an_event_is_open_and_no_other(resources: dict[str, Any]) -> None:
    wanted = set(ways(resources))
    assert set(grants(resources)) == wanted
    # SES and S3 bring mail, the clock brings the reconciler and the compactor, alarms ring.
    assert {service.partition(".")[0] for service, _, _ in wanted} == {
        "cloudwatch",
        "events",
        "s3",
        "ses",
        "sns",
    }
    assert {target for service, target, _ in wanted if service.startswith("events")} == {
        "Function",
        "Compactor",
    }


def test_policies_are_those_of_what_they_are_for(resources: dict[str, Any]) -> None:
    for kind, places in (("SQS::QueuePolicy", "Queues"), ("SNS::TopicPolicy", "Topics")):
        for name, one in of(resources, kind).items():
            (statement,) = [x for x in one["PolicyDocument"]["Statement"] if x["Effect"] == "Allow"]
            assert [logical(place) for place in one[places]] == [logical(statement["Resource"])], name


def test_function_may_do_this_and_nothing_more(resources: dict[str, Any]) -> None:
    (policy,) = resources["FunctionRole"]["Properties"]["Policies"]
    may = {
        (action, place["Fn::Sub"].partition("${BucketName}")[2] if "Fn::Sub" in place else logical(place))
        for one in policy["PolicyDocument"]["Statement"]
        for action in listed(one["Action"])
        for place in listed(one["Resource"])
    }
    written = ("processed", "quarantine", "manifest", "state/sent", "state/feedback")
    assert may == {
        ("s3:GetObject", "/incoming/*"),
        *(("s3:PutObject", f"/{one}/*") for one in written),
        ("s3:ListBucket", ""),
        *((f"dynamodb:{one}Item", "Table") for one in ("Get", "Put")),
        *((f"sqs:{one}", "ArrivalsQueue") for one in ("GetQueueUrl", "ReceiveMessage", "DeleteMessage")),
        ("sqs:SendMessage", "DeadLetterQueue"),
        *((f"logs:{one}", "FunctionLog") for one in ("CreateLogStream", "PutLogEvents")),
    }


def test_relay_sends_from_our_domains_alone(resources: dict[str, Any]) -> None:
    policies = {
        name: one["Properties"]["PolicyDocument"]
        for name, one in resources.items()
        if name.startswith("RelayPolicy")
    }
    assert len(policies) == len(SERVERS)
    for name, document in policies.items():
        by_action = {action: one for one in document["Statement"] for action in listed(one["Action"])}
        sends = by_action["ses:SendRawEmail"]
        senders = sends["Condition"]["StringLike"]["ses:FromAddress"]
        assert senders == [f"*@{domain}" for domain in CONFIG.domains], name
        assert '"*"' not in json.dumps(sends["Resource"]), name
