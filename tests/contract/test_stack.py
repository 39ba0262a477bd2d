"""The cloud stack on LocalStack: every resource real, repeatable, and the function works in it."""

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import TOML
from tests.contract.deployed import Deployed
from twinmail import stack
from twinmail.config import Config, Mailbox
from twinmail.function_zip import build_function
from twinmail.packs import originals
from twinmail.production import Packs, Retention
from twinmail.stack_template import render
from twinmail.tasks.config import PROJECT

TEMPLATE = PROJECT / "lambda" / "stack.yaml"


def function(folder: Path) -> Any:
    config_file = folder / "twinmail.toml"
    config_file.write_text(TOML)
    return build_function(PROJECT / "src", PROJECT / "lambda" / "handler.py", config_file)


def test_every_resource_of_the_template_was_really_made(deployed: Deployed) -> None:
    found = stack.resources(deployed.session.client("cloudformation"), deployed.config)
    assert set(found) == set(render(TEMPLATE.read_text(), deployed.config)["Resources"])
    assert not [name for name, physical in found.items() if not physical or physical == "unknown"]


def test_each_name_is_the_one_the_configuration_derives(deployed: Deployed) -> None:
    config, client = deployed.config, deployed.session.client
    assert client("s3").get_bucket_versioning(Bucket=config.bucket)["Status"] == "Enabled"
    assert client("dynamodb").describe_table(TableName=config.table)["Table"]["TableStatus"] == "ACTIVE"
    assert (
        client("lambda").get_function(FunctionName=config.function)["Configuration"]["Runtime"]
        == "python3.13"
    )
    for queue in (config.dead_letter_queue, *(config.queue(one) for one in config.servers)):
        assert client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]
    topics = [one["TopicArn"] for one in client("sns").list_topics()["Topics"]]
    assert any(one.endswith(f":{config.topic}") for one in topics)
    active = client("ses").describe_active_receipt_rule_set()
    assert active["Metadata"]["Name"] == config.rule_set
    (rule,) = active["Rules"]
    assert rule["Name"] == config.rule and rule["Recipients"] == list(config.receipt_recipients)
    assert [next(iter(action)) for action in rule["Actions"]] == ["S3Action", "LambdaAction"]


def test_bucket_is_closed_to_the_public_and_to_plain_http(deployed: Deployed) -> None:
    s3, bucket = deployed.session.client("s3"), deployed.config.bucket
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    (deny,) = [one for one in policy["Statement"] if one["Effect"] == "Deny"]
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_what_is_kept_and_how_long_is_what_the_configuration_says(deployed: Deployed, tmp_path: Path) -> None:
    session, config = deployed.session, deployed.config
    s3, logs = session.client("s3"), session.client("logs")
    cloudformation = session.client("cloudformation")

    def rules() -> dict[str, Any]:
        found = s3.get_bucket_lifecycle_configuration(Bucket=config.bucket)["Rules"]
        return {one["ID"]: one for one in found}

    def log_days() -> int:
        name = f"/aws/lambda/{config.function}"
        (group,) = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        days: int = group["retentionInDays"]
        return days

    def deploy(wanted: Config) -> None:
        stack.apply(cloudformation, stack.plan(cloudformation, TEMPLATE, wanted, function(tmp_path)), print)

    assert set(rules()) == {"abort-unfinished-uploads", "forget-deleted-and-replaced"}
    assert rules()["forget-deleted-and-replaced"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert log_days() == 30
    kept = Packs(expire_originals_days=365)
    try:
        deploy(
            replace(config, retention=Retention(log_days=90, deleted_days=60, archive_days=180), packs=kept)
        )
        assert rules()["forget-deleted-and-replaced"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 60}
        # What is in a pack may end, and nothing else of what is current.
        ending = [one for one in rules().values() if "Days" in one.get("Expiration", {})]
        assert [(one["ID"], one["Expiration"]) for one in ending] == [
            ("expire-packed-originals", {"Days": 365})
        ]
        assert ending[0]["Filter"]["Tag"] == originals.TAG["TagSet"][0]
        for prefix in ("incoming/", "processed/", "packs/"):
            one = rules()[f"archive-{prefix[:-1]}"]
            assert one["Filter"]["And"]["Prefix"] == prefix
            assert one["Filter"]["And"]["ObjectSizeGreaterThan"] >= 64 * 1024
            assert one["Transitions"] == [{"Days": 180, "StorageClass": "GLACIER_IR"}]
        assert log_days() == 90
    finally:
        deploy(config)
    assert not {"archive-incoming", "expire-packed-originals"} & set(rules()) and log_days() == 30


def test_alarms_are_there_and_tell_the_operator(deployed: Deployed) -> None:
    config, client = deployed.config, deployed.session.client
    alarms = client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{config.stack}-")["MetricAlarms"]
    assert len(alarms) == 8 + len(config.servers)
    (topic,) = {action for one in alarms for action in one["AlarmActions"]}
    assert topic.endswith(f":{config.alarm_topic}")
    (told,) = client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (told["Protocol"], told["Endpoint"]) == ("email", config.operator)
    queues = {each["Value"] for one in alarms for each in one["Dimensions"] if each["Name"] == "QueueName"}
    assert queues == {config.dead_letter_queue, *(config.queue(one) for one in config.servers)}


def test_an_alarm_reaches_who_listens_to_the_topic(deployed: Deployed) -> None:
    config, client = deployed.config, deployed.session.client
    name = f"{config.stack}-receipt-lost"
    (alarm,) = client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="alarmed")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    (topic,) = alarm["AlarmActions"]
    subscription = client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    try:
        # CloudWatch looks at it once in its period, which is too long to wait for.
        client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="tried")
        told = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"][0]["Body"]
        notice = json.loads(json.loads(told)["Message"])
        assert (notice["AlarmName"], notice["NewStateValue"]) == (name, "ALARM")
        assert "gave up" in notice["AlarmDescription"]
        # Who is told must not become somebody else to SES.
        assert config.operator not in client("ses").list_identities()["Identities"]
    finally:
        client("sns").unsubscribe(SubscriptionArn=subscription)
        sqs.delete_queue(QueueUrl=url)


def test_each_domain_sends_with_an_envelope_of_its_own(deployed: Deployed) -> None:
    config, ses = deployed.config, deployed.session.client("ses")
    found = ses.get_identity_mail_from_domain_attributes(Identities=list(config.domains))
    for domain in config.domains:
        one = found["MailFromDomainAttributes"][domain]
        assert one["MailFromDomain"] == config.mail_from(domain) == f"bounce.{domain}"
        # Mail goes out although the MX record is missing.
        assert one["BehaviorOnMXFailure"] == "UseDefaultValue"


def test_second_deployment_changes_nothing(deployed: Deployed, tmp_path: Path) -> None:
    cloudformation = deployed.session.client("cloudformation")
    plan = stack.plan(cloudformation, TEMPLATE, deployed.config, function(tmp_path))
    assert plan.changes == () and not plan.create
    assert not stack.activate(deployed.session.client("ses"), deployed.config)


def test_plan_of_a_changed_function_changes_the_function_alone(deployed: Deployed, tmp_path: Path) -> None:
    cloudformation = deployed.session.client("cloudformation")
    changed = tmp_path / "twinmail.toml"
    changed.write_text(TOML + "# changed\n")
    zipped = build_function(PROJECT / "src", PROJECT / "lambda" / "handler.py", changed)
    before = stack.resources(cloudformation, deployed.config)
    plan = stack.plan(cloudformation, TEMPLATE, deployed.config, zipped)
    try:
        assert "Function" in [one.logical_id for one in plan.changes if one.action == "Modify"]
        assert stack.resources(cloudformation, deployed.config) == before
    finally:
        cloudformation.delete_change_set(ChangeSetName=plan.change_set, StackName=plan.stack)


def test_mailboxes_and_aliases_come_and_go_with_what_they_may_send_from(
    deployed: Deployed, tmp_path: Path
) -> None:
    session, config = deployed.session, deployed.config
    cloudformation, iam = session.client("cloudformation"), session.client("iam")

    def deploy(wanted: Config) -> None:
        stack.apply(cloudformation, stack.plan(cloudformation, TEMPLATE, wanted, function(tmp_path)), print)

    def senders(mailbox: str) -> list[str]:
        user = config.smtp_user(mailbox)
        (attached,) = iam.list_attached_user_policies(UserName=user)["AttachedPolicies"]
        policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
        version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
        (statement,) = version["PolicyVersion"]["Document"]["Statement"]
        found: list[str] = statement["Condition"]["StringLike"]["ses:FromAddress"]
        return found

    assert senders("bob") == ["bob@example.org", "bob+*@example.org"]
    eve = Mailbox("eve", ("eve@example.org",))
    more = replace(
        config, mailboxes={**config.mailboxes, "eve": eve}, aliases={"team@example.org": ("bob", "eve")}
    )
    try:
        deploy(more)
        assert "team@example.org" in senders("bob")
        assert senders("eve")[0] == "eve@example.org" and "team@example.org" in senders("eve")
    finally:
        deploy(config)
    assert senders("bob") == ["bob@example.org", "bob+*@example.org"]
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_user(UserName=config.smtp_user("eve"))


def test_an_event_reaches_both_queues_through_the_function(deployed: Deployed) -> None:
    s3, sqs = deployed.session.client("s3"), deployed.session.client("sqs")
    ses_id = f"stack{time.time_ns()}"
    s3.put_object(Bucket=deployed.config.bucket, Key=f"incoming/{ses_id}", Body=b"Subject: x\r\n\r\nbody\r\n")
    event = {
        "Records": [
            {
                "ses": {
                    "mail": {"timestamp": "2026-11-22T10:00:00.000Z", "source": "", "messageId": ses_id},
                    "receipt": {"recipients": ["ann@example.org"]},
                }
            }
        ]
    }
    invoke = deployed.session.client("lambda").invoke
    invoke(FunctionName=deployed.config.function, InvocationType="Event", Payload=json.dumps(event).encode())
    for server in deployed.config.servers:
        url = sqs.get_queue_url(QueueName=deployed.config.queue(server))["QueueUrl"]
        deadline = time.monotonic() + 60
        bodies = ""
        while ses_id not in bodies:
            assert time.monotonic() < deadline, f"nothing in {url}"
            answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
            bodies += "".join(one["Body"] for one in answer.get("Messages", ()))


def test_function_logs_one_line_of_json_about_each_message(deployed: Deployed) -> None:
    ses_id = f"logged{time.time_ns()}"
    body = b"Subject: x\r\n\r\nbody\r\n"
    deployed.session.client("s3").put_object(
        Bucket=deployed.config.bucket, Key=f"incoming/{ses_id}", Body=body
    )
    mail = {"timestamp": "2026-11-22T10:00:00.000Z", "source": "", "messageId": ses_id}
    receipt = {"recipients": ["ann@example.org", "nobody@example.org"], "spamVerdict": {"status": "FAIL"}}
    event = {"Records": [{"ses": {"mail": mail, "receipt": receipt}}]}
    answer = deployed.session.client("lambda").invoke(
        FunctionName=deployed.config.function, LogType="Tail", Payload=json.dumps(event).encode()
    )
    assert "FunctionError" not in answer, answer["Payload"].read()
    lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
    (line,) = [json.loads(one) for one in lines if one.startswith("{") and ses_id in one]
    assert line["event"] == "committed" and line["milliseconds"] >= 0
    assert line["deliveries"] == ["ann/Junk"] and line["unknown"] == ["nobody@example.org"]
    assert line["manifest"].endswith(f"-{ses_id}.json")


def test_an_event_that_can_never_work_ends_in_the_dead_letter_queue(deployed: Deployed) -> None:
    sqs = deployed.session.client("sqs")
    invoke = deployed.session.client("lambda").invoke
    invoke(FunctionName=deployed.config.function, InvocationType="Event", Payload=b'{"Records": []}')
    url = sqs.get_queue_url(QueueName=deployed.config.dead_letter_queue)["QueueUrl"]
    deadline = time.monotonic() + 60
    while not sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"):
        assert time.monotonic() < deadline, "nothing in the dead-letter queue"
