"""What LocalStack must do for the local system, beside running functions: listen, keep, create for real."""

import io
import json
import socket
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.edge_process import poll
from tests.localstack_process import REGION, LocalStackProcess
from twinmail.runtime.interface import Runtime
from twinmail.smtp_credentials import smtp_password

PLACE = {"LocationConstraint": REGION}


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def make_table(localstack: LocalStackProcess, name: str) -> Any:
    client = localstack.client("dynamodb")
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return client


def test_listens_on_its_one_address_only(localstack: LocalStackProcess) -> None:
    with socket.create_connection(("127.0.0.1", localstack.port), timeout=10):
        pass
    # An address of this machine too: a server that binds all addresses answers there.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", localstack.port), timeout=10)


def test_concurrent_updates_of_one_item_lose_nothing(localstack: LocalStackProcess) -> None:
    table = unique("table")
    make_table(localstack, table)

    def count(_: int) -> None:
        client = localstack.client("dynamodb")
        for _ in range(25):
            client.update_item(
                TableName=table,
                Key={"id": {"S": "one"}},
                UpdateExpression="ADD hits :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    item = localstack.client("dynamodb").get_item(TableName=table, Key={"id": {"S": "one"}})["Item"]
    assert item["hits"] == {"N": "200"}


def test_of_concurrent_conditional_puts_one_wins(localstack: LocalStackProcess) -> None:
    table = unique("table")
    make_table(localstack, table)

    def put(number: int) -> bool:
        client = localstack.client("dynamodb")
        try:
            client.put_item(
                TableName=table,
                Item={"id": {"S": "one"}, "by": {"N": str(number)}},
                ConditionExpression="attribute_not_exists(id)",
            )
        except client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(put, range(16))) == 1


@pytest.mark.parametrize("count", [0, 26])
def test_batches_of_a_size_that_dynamodb_refuses(localstack: LocalStackProcess, count: int) -> None:
    table = unique("table")
    client = make_table(localstack, table)
    puts = [{"PutRequest": {"Item": {"id": {"S": str(one)}}}} for one in range(count)]
    # Botocore itself knows of the lower limit; only the wire has no such limit.
    with pytest.raises(ClientError, match="ValidationException"):
        client.batch_write_item(RequestItems={table: puts} if puts else {})


def test_expired_items_disappear_and_others_stay(localstack: LocalStackProcess) -> None:
    table = unique("table")
    client = make_table(localstack, table)
    client.update_time_to_live(
        TableName=table, TimeToLiveSpecification={"AttributeName": "until", "Enabled": True}
    )
    now = int(time.time())
    for name, until in {
        "old": {"N": str(now - 10)},
        "young": {"N": str(now + 3600)},
        "odd": {"S": "x"},
    }.items():
        client.put_item(TableName=table, Item={"id": {"S": name}, "until": until})
    client.put_item(TableName=table, Item={"id": {"S": "bare"}})

    def left() -> set[str]:
        return {item["id"]["S"] for item in client.scan(TableName=table)["Items"]}

    poll(lambda: True if "old" not in left() else None, "the end of the expired item")
    assert left() == {"young", "odd", "bare"}


def test_of_concurrent_creating_puts_of_one_object_one_wins(localstack: LocalStackProcess) -> None:
    bucket = unique("bucket")
    s3 = localstack.client("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=PLACE)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def put(number: int) -> bool:
        try:
            localstack.client("s3").put_object(
                Bucket=bucket, Key="key", Body=str(number).encode() * 100_000, IfNoneMatch="*"
            )
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(put, range(10)))
    assert sum(won) == 1
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == str(won.index(True)).encode() * 100_000
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 1


# One of everything that the stack has; a real stack takes its names from the configuration.
TEMPLATE = """
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    DependsOn: TopicPolicy
    Properties:
      BucketName: NAME
      VersioningConfiguration: {Status: Enabled}
      NotificationConfiguration:
        TopicConfigurations:
          - Event: "s3:ObjectCreated:*"
            Topic: {Ref: Topic}
            Filter: {S3Key: {Rules: [{Name: prefix, Value: manifest/}]}}
  BucketPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: {Ref: Bucket}
      PolicyDocument:
        Statement:
          - {Effect: Allow, Principal: {Service: ses.amazonaws.com}, Action: "s3:PutObject", Resource: "*"}
  Topic: {Type: AWS::SNS::Topic, Properties: {TopicName: NAME}}
  TopicPolicy:
    Type: AWS::SNS::TopicPolicy
    Properties:
      Topics: [{Ref: Topic}]
      PolicyDocument:
        Statement:
          - {Effect: Allow, Principal: {Service: s3.amazonaws.com}, Action: "sns:Publish", Resource: "*"}
  EventTopic: {Type: AWS::SNS::Topic, Properties: {TopicName: NAME-events}}
  EventTopicPolicy:
    Type: AWS::SNS::TopicPolicy
    Properties:
      Topics: [{Ref: EventTopic}]
      PolicyDocument:
        Statement:
          - {Effect: Allow, Principal: {Service: ses.amazonaws.com}, Action: "sns:Publish", Resource: "*"}
  Queue: {Type: AWS::SQS::Queue, Properties: {QueueName: NAME}}
  QueuePolicy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [{Ref: Queue}]
      PolicyDocument:
        Statement:
          - {Effect: Allow, Principal: {Service: sns.amazonaws.com}, Action: "sqs:SendMessage", Resource: "*"}
  Subscription:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: {Ref: Topic}
      Protocol: sqs
      RawMessageDelivery: true
      Endpoint: {"Fn::GetAtt": [Queue, Arn]}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: NAME
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: until, Enabled: true}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement:
          - {Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}
  Reader:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      ManagedPolicyName: NAME
      PolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Action: "s3:GetObject", Resource: "*"}]
  User: {Type: AWS::IAM::User, Properties: {UserName: NAME}}
  Sender:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      ManagedPolicyName: NAME-sender
      Users: [{Ref: User}]
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Action: "ses:SendRawEmail"
            Resource: "*"
            Condition: {StringLike: {"ses:FromAddress": ["ann@NAME.example"]}}
  LogGroup: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /aws/lambda/NAME}}
  Function:
    Type: AWS::Lambda::Function
    Properties:
      FunctionName: NAME
      Runtime: python3.13
      Architectures: [arm64]
      Handler: index.handler
      Role: {"Fn::GetAtt": [Role, Arn]}
      Code: {ZipFile: "def handler(event, context): return event"}
  Retries:
    Type: AWS::Lambda::EventInvokeConfig
    Properties: {FunctionName: {Ref: Function}, Qualifier: $LATEST, MaximumRetryAttempts: 2}
  Permission:
    Type: AWS::Lambda::Permission
    Properties: {FunctionName: {Ref: Function}, Action: "lambda:InvokeFunction", Principal: ses.amazonaws.com}
  Identity:
    Type: AWS::SES::EmailIdentity
    Properties:
      EmailIdentity: NAME.example
      MailFromAttributes: {MailFromDomain: bounce.NAME.example, BehaviorOnMxFailure: USE_DEFAULT_VALUE}
      ConfigurationSetAttributes: {ConfigurationSetName: {Ref: Configuration}}
  Configuration: {Type: AWS::SES::ConfigurationSet, Properties: {Name: NAME}}
  Events:
    Type: AWS::SES::ConfigurationSetEventDestination
    DependsOn: EventTopicPolicy
    Properties:
      ConfigurationSetName: {Ref: Configuration}
      EventDestination:
        Name: NAME
        Enabled: true
        MatchingEventTypes: [send, bounce]
        SnsDestination: {TopicARN: {Ref: EventTopic}}
  RuleSet: {Type: AWS::SES::ReceiptRuleSet, Properties: {RuleSetName: NAME}}
  Rule:
    Type: AWS::SES::ReceiptRule
    DependsOn: [BucketPolicy, Permission]
    Properties:
      RuleSetName: {Ref: RuleSet}
      Rule:
        Name: NAME-receive
        Enabled: true
        ScanEnabled: "true"
        TlsPolicy: Require
        Recipients: [NAME.example]
        Actions:
          - S3Action: {BucketName: {Ref: Bucket}, ObjectKeyPrefix: incoming/}
          - LambdaAction: {FunctionArn: {"Fn::GetAtt": [Function, Arn]}, InvocationType: Event}
  Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties:
      Namespace: AWS/SES
      MetricName: PublishFailure
      Statistic: Sum
      Period: 300
      EvaluationPeriods: 1
      Threshold: 0
      ComparisonOperator: GreaterThanThreshold
Outputs:
  DkimName: {Value: {"Fn::GetAtt": [Identity, DkimDNSTokenName1]}}
"""


class Stacks:
    """Stacks made by change sets, as the deployment makes them."""

    def __init__(self, localstack: LocalStackProcess) -> None:
        self.client = localstack.client("cloudformation")

    def make(self, name: str, template: str, kind: str = "CREATE") -> tuple[str, str]:
        """Bring a stack to *template*; return its status and the reason, of the change set when that failed."""
        change = {"StackName": name, "ChangeSetName": unique("change")}
        self.client.create_change_set(
            **change, ChangeSetType=kind, TemplateBody=template, Capabilities=["CAPABILITY_NAMED_IAM"]
        )

        def settled(describe: Callable[[], dict[str, Any]], key: str) -> dict[str, Any]:
            return poll(
                lambda: one if not (one := describe())[key].endswith(("PROGRESS", "PENDING")) else None, name
            )

        made = settled(lambda: dict(self.client.describe_change_set(**change)), "Status")
        if made["Status"] == "FAILED":
            return "FAILED", made["StatusReason"]
        self.client.execute_change_set(**change)
        stack = settled(lambda: dict(self.client.describe_stacks(StackName=name)["Stacks"][0]), "StackStatus")
        failed = [
            event["ResourceStatusReason"]
            for event in self.client.describe_stack_events(StackName=name)["StackEvents"]
            if event["ResourceStatus"].endswith("FAILED") and event.get("ResourceStatusReason")
        ]
        return stack["StackStatus"], " ".join(failed)

    def delete(self, name: str) -> None:
        self.client.delete_stack(StackName=name)
        poll(lambda: True if name not in self.names() else None, f"the end of {name}")

    def names(self) -> set[str]:
        stacks = self.client.list_stacks()["StackSummaries"]
        return {one["StackName"] for one in stacks if one["StackStatus"] != "DELETE_COMPLETE"}


@pytest.fixture(scope="module")
def stacks(localstack: LocalStackProcess) -> Stacks:
    return Stacks(localstack)


@pytest.fixture(scope="module")
def stack(stacks: Stacks) -> Iterator[str]:
    name = unique("stack")
    status, reason = stacks.make(name, TEMPLATE.replace("NAME", name))
    assert status == "CREATE_COMPLETE", reason
    yield name
    stacks.delete(name)


def test_every_resource_is_real(stacks: Stacks, stack: str) -> None:
    resources = stacks.client.describe_stack_resources(StackName=stack)["StackResources"]
    assert {one["ResourceStatus"] for one in resources} == {"CREATE_COMPLETE"}
    names = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in resources}
    assert len(names) == TEMPLATE.count("Type: AWS::")
    assert all(name and name != "unknown" for name in names.values()), names
    assert (names["RuleSet"], names["Rule"]) == (stack, f"{stack}-receive")
    assert (names["Configuration"], names["Identity"]) == (stack, f"{stack}.example")


def test_ses_holds_what_the_template_says(localstack: LocalStackProcess, stacks: Stacks, stack: str) -> None:
    ses = localstack.client("ses")
    (rule,) = ses.describe_receipt_rule_set(RuleSetName=stack)["Rules"]
    assert rule == {
        "Name": f"{stack}-receive",
        "Enabled": True,
        "ScanEnabled": True,
        "TlsPolicy": "Require",
        "Recipients": [f"{stack}.example"],
        "Actions": [
            {"S3Action": {"BucketName": stack, "ObjectKeyPrefix": "incoming/"}},
            {
                "LambdaAction": {
                    "FunctionArn": f"arn:aws:lambda:{REGION}:000000000000:function:{stack}",
                    "InvocationType": "Event",
                }
            },
        ],
    }
    assert ses.describe_active_receipt_rule_set().get("Metadata", {}).get("Name") != stack
    assert f"{stack}.example" in ses.list_identities()["Identities"]
    assert {"Name": stack} in ses.list_configuration_sets()["ConfigurationSets"]
    (output,) = stacks.client.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    assert output["OutputValue"].endswith(f"._domainkey.{stack}.example")


def test_a_changed_policy_counts_in_place(localstack: LocalStackProcess, stacks: Stacks, stack: str) -> None:
    iam = localstack.client("iam")
    (attached,) = iam.list_attached_user_policies(UserName=stack)["AttachedPolicies"]
    # IAM keeps five versions: the sixth change must still be possible.
    for number in range(6):
        changed = TEMPLATE.replace('["ann@NAME', f'["ann{number}@NAME').replace("NAME", stack)
        assert stacks.make(stack, changed, "UPDATE") == ("UPDATE_COMPLETE", "")
    policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
    assert f"ann5@{stack}.example" in json.dumps(version["PolicyVersion"]["Document"])
    assert stacks.make(stack, TEMPLATE.replace("NAME", stack), "UPDATE") == ("UPDATE_COMPLETE", "")


def test_changed_events_of_a_configuration_set_replace_the_old_ones(
    localstack: LocalStackProcess, stacks: Stacks, stack: str
) -> None:
    changed = TEMPLATE.replace("[send, bounce]", "[send, complaint]").replace("NAME", stack)
    assert stacks.make(stack, changed, "UPDATE") == ("UPDATE_COMPLETE", "")
    ses = localstack.client("ses")
    ses.send_raw_email(
        Source=f"ann@{stack}.example", Destinations=["x@example.com"], RawMessage={"Data": b"\r\n"}
    )

    def own() -> dict[str, Any] | None:
        """The message, and not one of another module that no edge has taken."""
        found = json.loads(ask(localstack, "/_twinmail/outbox") or "{}")
        return found if found.get("source") == f"ann@{stack}.example" else None

    # An edge of another module that ended in its wait may still have been given it, for some seconds.
    sent = poll(own, "the message")
    assert sent["configuration_set"] == stack
    assert sent["reports"] == [
        {"topic": f"arn:aws:sns:{REGION}:000000000000:{stack}-events", "events": ["complaint", "send"]}
    ]
    assert stacks.make(stack, TEMPLATE.replace("NAME", stack), "UPDATE") == ("UPDATE_COMPLETE", "")


def test_notifications_pass_their_filter_to_the_queue(localstack: LocalStackProcess, stack: str) -> None:
    s3, sqs = localstack.client("s3"), localstack.client("sqs")
    queue = sqs.get_queue_url(QueueName=stack)["QueueUrl"]
    for key in ("other/1", "manifest/2"):
        s3.put_object(Bucket=stack, Key=key, Body=b"")
    (message,) = poll(
        lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"), "the notification"
    )
    (record,) = json.loads(message["Body"])["Records"]
    assert record["s3"]["object"]["key"] == "manifest/2"


def test_a_changed_rule_is_updated_and_a_dropped_one_is_gone(
    localstack: LocalStackProcess, stacks: Stacks
) -> None:
    name = unique("stack")
    ses = localstack.client("ses")
    template = TEMPLATE.replace("NAME", name)
    assert stacks.make(name, template)[0] == "CREATE_COMPLETE"
    assert stacks.make(name, template.replace("Require", "Optional"), "UPDATE")[0] == "UPDATE_COMPLETE"
    (rule,) = ses.describe_receipt_rule_set(RuleSetName=name)["Rules"]
    assert rule["TlsPolicy"] == "Optional"
    stacks.delete(name)
    assert name not in {one["Name"] for one in ses.list_receipt_rule_sets()["RuleSets"]}
    assert f"{name}.example" not in ses.list_identities()["Identities"]


@pytest.mark.parametrize(
    ("admission", "reason"),
    [
        (
            'Principal: {Service: ses.amazonaws.com}, Action: "s3:PutObject"',
            "Could not write to bucket",
        ),
        ("Principal: ses.amazonaws.com", "Invalid Lambda function"),
        (
            'Principal: {Service: ses.amazonaws.com}, Action: "sns:Publish"',
            "Could not publish to SNS topic",
        ),
    ],
)
def test_what_ses_uses_must_admit_it(stacks: Stacks, admission: str, reason: str) -> None:
    name = unique("stack")
    template = TEMPLATE.replace("NAME", name)
    assert template.count(admission) == 1
    closed = template.replace(admission, admission.replace("ses.amazonaws.com", "logs.amazonaws.com"))
    status, reasons = stacks.make(name, closed)
    assert status == "ROLLBACK_COMPLETE"
    assert reason in reasons


def test_a_resource_that_cannot_be_created_fails_the_stack(stacks: Stacks) -> None:
    status, reason = stacks.make(unique("stack"), "Resources: {One: {Type: AWS::Nowhere::Thing}}")
    assert status == "FAILED"
    assert "AWS::Nowhere::Thing" in reason


@pytest.fixture
def other(runtime: Runtime, tmp_path: Path) -> Iterator[LocalStackProcess]:
    process = LocalStackProcess(runtime, tmp_path, unique("restarted"))
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_objects_and_items_outlive_the_process(other: LocalStackProcess, end: str) -> None:
    name, removed = unique("stack"), unique("removed")
    assert Stacks(other).make(name, TEMPLATE.replace("NAME", name))[0] == "CREATE_COMPLETE"
    s3, table = other.client("s3"), other.client("dynamodb")
    body = bytes(range(256)) * 40_000
    s3.put_object(Bucket=name, Key="incoming/one", Body=b"first", Metadata={"mark": "x"})
    s3.put_object(Bucket=name, Key="incoming/one", Body=b"second", ContentType="message/rfc822")
    s3.upload_fileobj(io.BytesIO(body), name, "incoming/large")
    s3.copy_object(Bucket=name, Key="manifest/copy", CopySource={"Bucket": name, "Key": "incoming/large"})
    s3.put_object(Bucket=name, Key="gone", Body=b"gone")
    s3.delete_object(Bucket=name, Key="gone")
    s3.create_bucket(Bucket=removed, CreateBucketConfiguration=PLACE)
    s3.put_object(Bucket=removed, Key="key", Body=b"")
    s3.delete_objects(Bucket=removed, Delete={"Objects": [{"Key": "key"}]})
    s3.delete_bucket(Bucket=removed)
    before = _versions(s3, name)
    item = {"id": {"S": "one"}, "bytes": {"B": b"\0\xff"}, "list": {"L": [{"N": "1"}, {"BOOL": True}]}}
    table.put_item(TableName=name, Item=item)
    table.update_item(
        TableName=name,
        Key={"id": {"S": "one"}},
        UpdateExpression="SET more = :more",
        ExpressionAttributeValues={":more": {"S": "ü"}},
    )
    for number in range(30):
        table.put_item(TableName=name, Item={"id": {"S": f"n{number}"}})
    table.delete_item(TableName=name, Key={"id": {"S": "n0"}})
    table.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": name, "Item": {"id": {"S": "t"}}}},
            {"Delete": {"TableName": name, "Key": {"id": {"S": "n1"}}}},
        ]
    )
    items = _items(table, name)
    iam = other.client("iam")
    kept, gone = (iam.create_access_key(UserName=name)["AccessKey"] for _ in range(2))
    iam.delete_access_key(UserName=name, AccessKeyId=gone["AccessKeyId"])
    message = b"From: ann@" + name.encode() + b".example\r\n\r\n\xff\0"
    send = {"Destinations": ["x@example.com"], "RawMessage": {"Data": message}}
    ses_id = other.client("ses").send_raw_email(**send)["MessageId"]

    getattr(other, end)()
    other.start()

    assert other.client("s3").list_buckets()["Buckets"] == []
    assert Stacks(other).make(name, TEMPLATE.replace("NAME", name)) == ("CREATE_COMPLETE", "")
    s3, table = other.client("s3"), other.client("dynamodb")
    assert _versions(s3, name) == before
    assert _items(table, name) == items
    iam = other.client("iam")
    listed = iam.list_access_keys(UserName=name)["AccessKeyMetadata"]
    assert [(one["AccessKeyId"], one["Status"]) for one in listed] == [(kept["AccessKeyId"], "Active")]
    assert may_log_in(other, kept) and not may_log_in(other, gone)
    waiting = json.loads(ask(other, "/_twinmail/outbox"))
    assert (waiting["ses_id"], waiting["source"]) == (ses_id, f"ann@{name}.example")
    assert ask(other, f"/_twinmail/outbox/{ses_id}") == message
    (file,) = (other.state / "iam").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    got = s3.get_object(Bucket=name, Key="incoming/one")
    assert (got["Body"].read(), got["ContentType"]) == (b"second", "message/rfc822")
    first = next(one for one in before if one["Key"] == "incoming/one" and not one["IsLatest"])
    got = s3.get_object(Bucket=name, Key="incoming/one", VersionId=first["VersionId"])
    assert (got["Body"].read(), got["Metadata"]) == (b"first", {"mark": "x"})
    for key in ("incoming/large", "manifest/copy"):
        assert s3.get_object(Bucket=name, Key=key)["Body"].read() == body
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=name, Key="gone")
    s3.create_bucket(Bucket=removed, CreateBucketConfiguration=PLACE)
    assert "Contents" not in s3.list_objects_v2(Bucket=removed)
    # Nothing that came back is announced a second time; what is new is.
    sqs = other.client("sqs")
    s3.put_object(Bucket=name, Key="manifest/new", Body=b"")
    queue = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    (message,) = poll(
        lambda: sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1, MaxNumberOfMessages=10).get(
            "Messages"
        ),
        "the notification",
    )
    assert "manifest/new" in message["Body"]


def ask(localstack: LocalStackProcess, path: str) -> bytes:
    with urllib.request.urlopen(f"{localstack.endpoint}{path}", timeout=30) as answer:
        body: bytes = answer.read()
        return body


def may_log_in(localstack: LocalStackProcess, key: dict[str, str]) -> bool:
    password = smtp_password(key["SecretAccessKey"], REGION)
    body = json.dumps({"user": key["AccessKeyId"], "password": password}).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{localstack.endpoint}/_twinmail/smtp/login", body, kind)
    try:
        with urllib.request.urlopen(request, timeout=30):
            return True
    except urllib.error.HTTPError as error:
        assert error.code == 403
        return False


def _versions(s3: Any, bucket: str) -> list[dict[str, Any]]:
    listed = s3.list_object_versions(Bucket=bucket)
    return [*listed["Versions"], *listed["DeleteMarkers"]]


def _items(table: Any, name: str) -> list[dict[str, Any]]:
    return sorted(table.scan(TableName=name)["Items"], key=lambda one: str(one["id"]["S"]))
