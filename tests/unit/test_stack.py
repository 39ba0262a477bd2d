"""The cloud stack: what the template says, and what a deployment does in every state a stack can be in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from cfnlint.api import ManualArgs, lint
from moto import mock_aws

from tests.cloud import CONFIG
from twinmail import stack
from twinmail.config import Config, Mailbox, Server
from twinmail.function_zip import FunctionZip
from twinmail.stack_template import TemplateError, render

TEMPLATE = Path(__file__).parents[2] / "lambda" / "stack.yaml"
FUNCTION = FunctionZip(b"zip", "0" * 64)


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = render(TEMPLATE.read_text(), CONFIG)["Resources"]
    return found


def test_rendered_template_passes_the_linter() -> None:
    document = render(TEMPLATE.read_text(), CONFIG)
    assert not lint(json.dumps(document), config=ManualArgs(regions=[CONFIG.region]))
    document["Resources"]["Bucket"]["Properties"]["NoSuchProperty"] = True
    assert lint(json.dumps(document), config=ManualArgs(regions=[CONFIG.region])), "the linter checks nothing"


def test_template_has_one_queue_a_server_and_one_identity_a_domain(resources: dict[str, Any]) -> None:
    kinds = [one["Type"] for one in resources.values()]
    subscriptions = [one for one in resources.values() if one["Type"] == "AWS::SNS::Subscription"]
    protocols = [one["Properties"]["Protocol"] for one in subscriptions]
    # One queue more, of what has arrived, is the reconciler's.
    assert sorted(protocols) == ["email", "lambda", *["sqs"] * (len(CONFIG.servers) + 1)]
    assert kinds.count("AWS::SES::EmailIdentity") == len(CONFIG.domains)
    assert "${Server}" not in json.dumps(resources) and "${Domain}" not in json.dumps(resources)


def test_another_domain_leaves_the_first_ones_alone(resources: dict[str, Any]) -> None:
    more = replace(CONFIG, domains=("a.example", *CONFIG.domains))
    rendered = render(TEMPLATE.read_text(), more)["Resources"]
    # What may send for all domains may send for the new one too.
    policies = {name for name in resources if name.startswith(("SmtpPolicyWebmail", "SyncerPolicy"))}
    kept = [name for name in resources if name not in policies]
    assert {name: rendered[name] for name in kept} == {name: resources[name] for name in kept}


def test_server_names_that_differ_in_hyphens_alone_are_refused() -> None:
    servers = {name: Server(name, "linux/amd64", "a.example.org") for name in ("home-1", "home1")}
    with pytest.raises(TemplateError, match="rename one"):
        render(TEMPLATE.read_text(), replace(CONFIG, servers=servers))


def test_order_in_which_permissions_must_exist(resources: dict[str, Any]) -> None:
    assert set(resources["Rule"]["DependsOn"]) == {
        "BucketPolicy",
        "FunctionPermission",
        "ArrivalsTopicPolicy",
        "ArrivalsSubscription",
    }
    assert resources["Bucket"]["DependsOn"] == "ManifestTopicPolicy"
    actions = resources["Rule"]["Properties"]["Rule"]["Actions"]
    assert [next(iter(one)) for one in actions] == ["S3Action", "LambdaAction"]
    assert resources["Rule"]["Properties"]["Rule"]["ScanEnabled"] is True


def test_log_outlives_the_stack_but_not_its_failed_creation(resources: dict[str, Any]) -> None:
    for name in ("Bucket", "Table"):
        assert resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resources[name]["UpdateReplacePolicy"] == "Retain"


def test_roles_have_the_least_privilege(resources: dict[str, Any]) -> None:
    text = json.dumps(resources["FunctionRole"]["Properties"]["Policies"])
    assert '"*"' not in text and ":*" not in text and "s3:Delete" not in text
    for name in CONFIG.servers:
        policy = resources[f"SyncerPolicy{name.title()}"]["Properties"]["PolicyDocument"]
        for one in policy["Statement"]:
            actions, target = {*_list(one["Action"])}, json.dumps(one["Resource"])
            assert "s3:DeleteObject" not in actions
            # Neither the log, nor the accounts, nor what SES reports: a server that was broken into is alone.
            for forbidden in ("manifest/", "processed/", "packs/", "state/*", "accounts", "sent", "feedback"):
                assert "s3:PutObject" not in actions or forbidden not in target
        assert "incoming/" not in json.dumps(policy) and "quarantine/" not in json.dumps(policy)


def test_syncer_sends_from_our_domains_and_learns_what_is_not_there(resources: dict[str, Any]) -> None:
    for name in CONFIG.servers:
        policy = resources[f"SyncerPolicy{name.title()}"]["Properties"]["PolicyDocument"]
        by_action = {action: one for one in policy["Statement"] for action in _list(one["Action"])}
        senders = by_action["ses:SendRawEmail"]["Condition"]["StringLike"]["ses:FromAddress"]
        assert senders == [f"*@{domain}" for domain in CONFIG.domains]
        # Without a prefix too: S3 answers 403 to a GET of nothing from who may not list.
        assert by_action["s3:ListBucket"]["Condition"] == {
            "StringLikeIfExists": {"s3:prefix": ["manifest/*", "packs/*", "state/*"]}
        }


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def test_services_may_act_for_this_account_and_these_resources_only(resources: dict[str, Any]) -> None:
    documents = [
        resources[one]["Properties"]["PolicyDocument"]
        for one in ("BucketPolicy", "ManifestTopicPolicy", "OutgoingTopicPolicy")
    ]
    for document in documents:
        for statement in document["Statement"]:
            if statement["Effect"] == "Allow":
                condition = json.dumps(statement["Condition"])
                assert "aws:SourceArn" in condition and "aws:SourceAccount" in condition
    permission = resources["FunctionPermission"]["Properties"]
    assert permission["SourceAccount"] and "receive" in json.dumps(permission["SourceArn"])
    assert resources["OutgoingPermission"]["Properties"]["SourceArn"] == {"Ref": "OutgoingTopic"}


def test_what_becomes_of_sent_mail_reaches_the_function(resources: dict[str, Any]) -> None:
    destination = resources["OutgoingEvents"]["Properties"]["EventDestination"]
    assert destination["MatchingEventTypes"] == ["send", "bounce", "complaint", "reject"]
    assert destination["SnsDestination"]["TopicARN"] == {"Ref": "OutgoingTopic"}
    subscription = resources["OutgoingSubscription"]["Properties"]
    assert (subscription["Protocol"], subscription["TopicArn"]) == ("lambda", {"Ref": "OutgoingTopic"})
    # SES tries the topic, and SNS the function, when they are joined.
    assert resources["OutgoingEvents"]["DependsOn"] == "OutgoingTopicPolicy"
    assert resources["OutgoingSubscription"]["DependsOn"] == "OutgoingPermission"
    identities = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::SES::EmailIdentity"]
    assert len(identities) == len(CONFIG.domains)
    for one in identities:
        assert one["ConfigurationSetAttributes"] == {"ConfigurationSetName": {"Ref": "ConfigurationSet"}}
        assert one["FeedbackAttributes"] == {"EmailForwardingEnabled": False}
        assert one["DkimAttributes"] == {"SigningEnabled": True}


def test_names_are_those_of_the_configuration(resources: dict[str, Any]) -> None:
    text = json.dumps(resources).replace("${Prefix}", CONFIG.stack)
    for name in (CONFIG.outgoing_topic, *(CONFIG.smtp_user(one) for one in (*CONFIG.mailboxes, "webmail"))):
        assert f'"{name}"' in text
    assert resources["ConfigurationSet"]["Properties"]["Name"] == {"Ref": "Prefix"}
    assert CONFIG.configuration_set == CONFIG.stack


def test_compactor_may_write_packs_and_tag_and_nothing_else(resources: dict[str, Any]) -> None:
    (policy,) = resources["CompactorRole"]["Properties"]["Policies"]
    may = {
        (action, resource["Fn::Sub"].partition("${BucketName}")[2])
        for one in policy["PolicyDocument"]["Statement"]
        for action in _list(one["Action"])
        if action.startswith("s3:")
        for resource in (one["Resource"] if isinstance(one["Resource"], list) else [one["Resource"]])
    }
    kept = ("/manifest/*", "/processed/*", "/quarantine/*")
    assert may == {
        ("s3:ListBucket", ""),
        *(("s3:GetObject", one) for one in (*kept, "/packs/*")),
        ("s3:PutObject", "/packs/*"),
        *(("s3:PutObjectTagging", one) for one in kept),
    }
    (tags,) = [one for one in policy["PolicyDocument"]["Statement"] if one["Action"] == "s3:PutObjectTagging"]
    assert tags["Condition"] == {"StringLikeIfExists": {"s3:RequestObjectTag/packed": "true"}}


def test_function_may_record_what_was_sent_and_no_other_state(resources: dict[str, Any]) -> None:
    text = json.dumps(resources["FunctionRole"]["Properties"]["Policies"])
    assert "/state/sent/*" in text and "/state/feedback/*" in text and "/state/*" not in text


def test_more_addresses_than_a_receipt_rule_takes() -> None:
    many = tuple(f"u{number}@example.org" for number in range(101))
    config = replace(CONFIG, mailboxes={"ann": Mailbox("ann", many)})
    with pytest.raises(stack.StackError) as caught:
        stack.parameters(config, FUNCTION)
    assert str(caught.value) == (
        "101 addresses for the receipt rule: SES takes 100; "
        "give a mailbox the catch-all *@domain in twinmail.toml, which counts once"
    )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1"])
def test_code_is_uploaded_once_and_again(aws: None, region: str) -> None:
    s3 = boto3.client("s3", region_name=region)
    config = replace(CONFIG, region=region)
    for _ in range(2):
        stack.upload_code(s3, config, FUNCTION)
    bucket = stack.code_bucket(config)
    assert s3.get_object(Bucket=bucket, Key=FUNCTION.key)["Body"].read() == b"zip"
    blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(blocked.values())


class Ses:
    active: str | None = None

    def describe_active_receipt_rule_set(self) -> dict[str, Any]:
        return {"Metadata": {"Name": self.active}} if self.active else {}

    def set_active_receipt_rule_set(self, RuleSetName: str) -> None:
        self.active = RuleSetName


def test_rule_set_is_activated_once() -> None:
    ses = Ses()
    assert stack.activate(ses, CONFIG) and ses.active == CONFIG.rule_set
    assert not stack.activate(ses, CONFIG)
    ses.active = "somebody-elses"
    assert stack.activate(ses, CONFIG)


@dataclass
class CloudFormation:
    """Answers as CloudFormation does for one stack in *status*; executing adds *happens*, one a poll."""

    status: str | None = None
    happens: list[tuple[str, str, str]] = field(default_factory=list)
    change_set: dict[str, Any] = field(default_factory=lambda: {"Status": "CREATE_COMPLETE", "Changes": []})
    calls: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    executed: bool = False

    class exceptions:
        ClientError = ClientError

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if self.status is None:
            message = f"Stack with id {StackName} does not exist"
            raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "DescribeStacks")
        return {"Stacks": [{"StackStatus": self.status}]}

    def delete_stack(self, StackName: str) -> None:
        self.calls.append("delete_stack")
        self.status = None

    def create_change_set(self, ChangeSetType: str, **options: Any) -> dict[str, Any]:
        self.calls.append(f"create_change_set {ChangeSetType}")
        self.options = options
        return {"Id": "arn:change-set"}

    def describe_change_set(self, **options: Any) -> dict[str, Any]:
        return self.change_set

    def delete_change_set(self, **options: Any) -> None:
        self.calls.append("delete_change_set")

    def execute_change_set(self, **options: Any) -> None:
        self.executed = True

    def describe_stack_events(self, StackName: str) -> dict[str, Any]:
        if self.executed and self.happens:
            state, name, reason = self.happens.pop(0)
            kind = "AWS::CloudFormation::Stack" if name == StackName else "AWS::S3::Bucket"
            event = {"EventId": str(len(self.events)), "ResourceStatus": state, "LogicalResourceId": name}
            self.events.insert(0, {**event, "ResourceType": kind, "ResourceStatusReason": reason})
        return {"StackEvents": list(self.events)}


def plan(cloudformation: CloudFormation, config: Config = CONFIG) -> stack.Plan:
    return stack.plan(cloudformation, TEMPLATE, config, FUNCTION)


@pytest.mark.parametrize("status", [None, "REVIEW_IN_PROGRESS", "DELETE_COMPLETE"])
def test_stack_that_holds_nothing_is_created(status: str | None) -> None:
    cloudformation = CloudFormation(status)
    assert plan(cloudformation).create
    assert cloudformation.calls == ["create_change_set CREATE"]


def test_failed_creation_is_cleared_away_and_created_again() -> None:
    cloudformation = CloudFormation("ROLLBACK_COMPLETE")
    assert plan(cloudformation).create
    assert cloudformation.calls == ["delete_stack", "create_change_set CREATE"]


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_stack_at_rest_is_updated(status: str) -> None:
    cloudformation = CloudFormation(status)
    assert not plan(cloudformation).create
    assert cloudformation.calls == ["create_change_set UPDATE"]


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("UPDATE_IN_PROGRESS", "wait for the other deployment to end"),
        ("UPDATE_ROLLBACK_FAILED", 'choose "continue update rollback"'),
        ("ROLLBACK_FAILED", "delete the stack in the CloudFormation console, then deploy again"),
        ("DELETE_FAILED", "delete the stack in the CloudFormation console, then deploy again"),
    ],
)
def test_state_that_no_update_leaves_names_its_remedy(status: str, remedy: str) -> None:
    cloudformation = CloudFormation(status)
    with pytest.raises(stack.StackError, match=remedy) as caught:
        plan(cloudformation)
    assert status in str(caught.value) and not cloudformation.calls


def test_nothing_to_change_is_an_empty_plan_and_no_deployment() -> None:
    reason = "The submitted information didn't contain changes."
    cloudformation = CloudFormation(
        "UPDATE_COMPLETE", change_set={"Status": "FAILED", "StatusReason": reason}
    )
    empty = plan(cloudformation)
    assert empty.changes == () and cloudformation.calls[-1] == "delete_change_set"
    stack.apply(cloudformation, empty, pytest.fail)
    assert not cloudformation.executed


def test_template_that_is_too_large_for_the_request_goes_by_way_of_s3(aws: None) -> None:
    boxes = {f"u{one}": Mailbox(f"u{one}", (f"u{one}@example.org",)) for one in range(60)}
    config = replace(CONFIG, mailboxes=boxes)
    s3 = boto3.client("s3", region_name=config.region)
    stack.upload_code(s3, config, FUNCTION)
    cloudformation = CloudFormation()
    stack.plan(cloudformation, TEMPLATE, config, FUNCTION, s3)
    assert "TemplateBody" not in cloudformation.options
    bucket = stack.code_bucket(config)
    start = f"https://{bucket}.s3.{config.region}.amazonaws.com/"
    url: str = cloudformation.options["TemplateURL"]
    assert url.startswith(f"{start}template/")
    body = s3.get_object(Bucket=bucket, Key=url.removeprefix(start))["Body"].read()
    assert len(body) > stack.INLINE_OCTETS
    assert json.loads(body) == render(TEMPLATE.read_text(), config)
    with pytest.raises(stack.StackError, match="expected S3"):
        stack.plan(cloudformation, TEMPLATE, config, FUNCTION)


@pytest.mark.parametrize(("status", "boxes"), [("ROLLBACK_COMPLETE", 1), (None, 60)])
def test_a_plan_that_is_not_kept_touches_nothing(status: str | None, boxes: int) -> None:
    config = replace(
        CONFIG, mailboxes={f"u{one}": Mailbox(f"u{one}", (f"u{one}@example.org",)) for one in range(boxes)}
    )
    cloudformation = CloudFormation(status)
    found = stack.plan(cloudformation, TEMPLATE, config, FUNCTION, keep=False)
    assert not cloudformation.calls and not found.change_set and found.create
    assert {one.logical_id for one in found.changes} == set(render(TEMPLATE.read_text(), config)["Resources"])


def test_refused_template_says_why() -> None:
    cloudformation = CloudFormation(change_set={"Status": "FAILED", "StatusReason": "bad Ref"})
    with pytest.raises(stack.StackError, match="refused the template: bad Ref"):
        plan(cloudformation)


def test_changes_are_data() -> None:
    change = {"Action": "Modify", "LogicalResourceId": "Function", "ResourceType": "AWS::Lambda::Function"}
    change_set = {
        "Status": "CREATE_COMPLETE",
        "Changes": [{"ResourceChange": {**change, "Replacement": "True"}}],
    }
    (found,) = plan(CloudFormation("CREATE_COMPLETE", change_set=change_set)).changes
    assert found == stack.Change("Modify", "Function", "AWS::Lambda::Function", True)


def test_events_are_shown_as_they_happen_and_old_ones_are_not() -> None:
    name = CONFIG.stack
    # The stack's status is still the old one when it starts, and must not look like the end.
    cloudformation = CloudFormation("UPDATE_COMPLETE")
    cloudformation.happens = [("CREATE_COMPLETE", name, "")]
    cloudformation.executed = True
    cloudformation.describe_stack_events(name)
    cloudformation.happens = [
        ("UPDATE_IN_PROGRESS", name, ""),
        ("UPDATE_COMPLETE", "Bucket", ""),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", name, ""),
        ("UPDATE_COMPLETE", name, ""),
    ]
    cloudformation.executed = False
    shown: list[str] = []
    stack.apply(cloudformation, plan(cloudformation), shown.append)
    assert shown == [
        f"update in progress  {name}",
        "update complete  Bucket",
        f"update complete cleanup in progress  {name}",
        f"update complete  {name}",
    ]


def test_failed_update_gives_the_reasons_and_the_remedy() -> None:
    name = CONFIG.stack
    cloudformation = CloudFormation(
        "CREATE_COMPLETE",
        [
            ("UPDATE_IN_PROGRESS", name, ""),
            ("UPDATE_FAILED", "Bucket", "name is taken"),
            ("UPDATE_ROLLBACK_IN_PROGRESS", name, ""),
            ("UPDATE_ROLLBACK_COMPLETE", name, ""),
        ],
    )
    with pytest.raises(stack.StackError) as caught:
        stack.apply(cloudformation, plan(cloudformation), lambda _: None)
    assert str(caught.value) == (
        f"stack {name}: UPDATE_ROLLBACK_COMPLETE; what failed:\n"
        "  Bucket: name is taken\n"
        "mend it and deploy again"
    )


def test_deployment_that_never_ends_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "WAIT_SECONDS", 0.3)
    cloudformation = CloudFormation("CREATE_COMPLETE", [("UPDATE_IN_PROGRESS", CONFIG.stack, "")])
    with pytest.raises(stack.StackTimeout, match=f"stack {CONFIG.stack}: not finished after"):
        stack.apply(cloudformation, plan(cloudformation), lambda _: None)
