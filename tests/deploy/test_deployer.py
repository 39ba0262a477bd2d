"""Who deploys may do what a deployment does, and nothing else: a recorded one is held against lambda/deployer.yaml."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from localstack_client.session import Session

from tests.cloud import CONFIG, TOML
from tests.deploy.deployer_calls import VIA, needs
from tests.deploy.recorded_calls import CALLS, REGION, Need, actions, listed
from tests.localstack_process import LocalStackProcess
from twinmail import deployer, stack
from twinmail.config import Config
from twinmail.deploy import credentials
from twinmail.deploy.cloud import Cloud
from twinmail.runtime.select import available, choose
from twinmail.secret_store import SecretStore
from twinmail.stack_template import render
from twinmail.tasks.config import PROJECT

TEXT = (PROJECT / "lambda" / "deployer.yaml").read_text()
USER = "deployer"
# Needed for what no deployment to LocalStack comes to, with the reason.
ONLY_IN_AWS = {
    "cloudformation:DeleteStack": "of a stack whose first creation failed, or whose plan was only looked at",
    "s3:GetObject": "CloudFormation and Lambda read as who deploys; LocalStack's read as themselves",
    "iam:GetAccessKeyLastUsed": "before an old key ends: LocalStack does not say when a key was used",
}


@dataclass(frozen=True)
class Record:
    """What a deployment did, and what it may."""

    needs: tuple[Need, ...]
    policies: dict[str, Any]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    folder = tmp_path_factory.mktemp("deployer")
    runtime = choose(available()[0], folder / "containers")
    process = LocalStackProcess(runtime, folder, "deployer", record=True)
    try:
        deploy(process.start(), folder)
    finally:
        process.stop()
    found = needs(process.state / CALLS, USER, CONFIG.stack)
    # What looks alone is for the doctor; deploying must do without it.
    parts = [one for one in deployer.parts(TEXT, CONFIG) if one.name != "look"]
    yield Record(tuple({str(one): one for one in found}.values()), {one.name: one.document for one in parts})


def deploy(process: LocalStackProcess, folder: Path) -> None:
    """Look, deploy, change, take back, and make keys: all as one user."""
    iam = process.client("iam")
    iam.create_user(UserName=USER)
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    session = Session(
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        region_name=CONFIG.region,
        localstack_host=f"127.0.0.1:{process.port}",
    )
    path = folder / "twinmail.toml"

    def cloud(text: str) -> Cloud:
        path.write_text(text)
        return Cloud.of(Config.load(path), path, session)

    assert cloud(TOML).plan(keep=False).lines(CONFIG)
    for text in (
        TOML,
        TOML.replace("example.net", "example.com").replace("bob", "eve") + "[retention]\nlog_days = 90\n",
        TOML,
    ):
        changed = cloud(text)
        changed.apply(changed.plan(keep=True), print)
    assert not cloud(TOML).plan(keep=True).lines(CONFIG)
    store = SecretStore(folder / "secrets")
    for needed in credentials.plan(CONFIG, store):
        credentials.make(session.client("iam"), needed, store)
    (first, *_) = session.client("iam").list_access_keys(UserName=CONFIG.syncer_user("backup"))[
        "AccessKeyMetadata"
    ]
    session.client("iam").delete_access_key(UserName=first["UserName"], AccessKeyId=first["AccessKeyId"])


def refused(record: Record) -> list[Need]:
    return [one for one in record.needs if not any(map(one.is_met_by, record.policies.values()))]


def test_record_has_the_users_calls_and_cloudformations(record: Record) -> None:
    via = {one.action.partition(":")[0] for one in record.needs if one.context}
    assert via >= {"s3", "dynamodb", "sqs", "sns", "lambda", "logs", "cloudwatch", "iam", "ses"}
    assert {one.action.partition(":")[0] for one in record.needs if not one.context} == {
        "cloudformation",
        "iam",
        "s3",
        "ses",
    }


def test_nothing_is_done_that_is_not_allowed(record: Record) -> None:
    assert not refused(record), "\n".join(map(str, refused(record)))


def test_nothing_is_allowed_the_user_that_the_user_does_not_do(record: Record) -> None:
    direct = [one for one in record.needs if not one.context]
    for part in ("stack", "keys"):
        for action in actions(record.policies[part]) - ONLY_IN_AWS.keys():
            assert any(one.action == action for one in direct), action
    assert ONLY_IN_AWS.keys() <= actions(record.policies["stack"]) | actions(record.policies["keys"])


def test_permission_too_few_would_be_found(record: Record) -> None:
    for part in ("stack", "resources", "identities", "keys"):
        fewer = replace(record, policies={name: one for name, one in record.policies.items() if name != part})
        assert refused(fewer), part


def test_what_is_cloudformations_is_not_the_users(record: Record) -> None:
    """The same call is refused when no CloudFormation makes it."""
    for one in record.needs:
        if one.context.get("aws:CalledVia") == VIA["aws:CalledVia"] and one.action != "s3:CreateBucket":
            alone = replace(one, context={})
            assert not any(map(alone.is_met_by, record.policies.values())), one


def schema_permissions(*handlers: str) -> set[str]:
    """What AWS's schemas of the stack's resource types say that their *handlers* call."""
    template = (PROJECT / "lambda" / "stack.yaml").read_text()
    found: set[str] = set()
    for kind in {one["Type"] for one in render(template, CONFIG)["Resources"].values()}:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
        for name in handlers:
            found |= set(schema["handlers"].get(name, {}).get("permissions", ()))
    return found


def granted() -> set[str]:
    """What CloudFormation may do in the name of who deploys."""
    parts = {one.name: one.document for one in deployer.parts(TEXT, CONFIG)}
    return actions(parts["resources"]) | actions(parts["identities"])


def test_cloudformation_may_do_nothing_that_makes_no_resource_of_the_stack() -> None:
    needed = schema_permissions("create", "read", "update", "delete")
    assert not [one for one in granted() if not any(fnmatchcase(each, one) for each in needed)]


def test_cloudformation_may_read_all_it_looks_at() -> None:
    # No key of ours encrypts the function's settings.
    needed = schema_permissions("read") - {"kms:Decrypt"}
    assert not [one for one in needed if not any(fnmatchcase(one, each) for each in granted())]


def test_policies_are_of_a_size_that_iam_takes() -> None:
    long = replace(CONFIG, stack="s" * 32, bucket="b" * 63)
    for one in deployer.parts(TEXT, long, "1" * 12):
        assert len(re.sub(r"\s", "", json.dumps(one.document))) <= deployer.MANAGED_OCTETS, one.name


def called(service: str, folders: tuple[str, ...]) -> set[str]:
    """Operations of *service* that stand in the sources; leaving is not who deploys."""
    model = botocore.session.get_session().get_service_model(service)
    operations = {xform_name(one): one for one in model.operation_names}
    found: set[str] = set()
    for folder in folders:
        for path in (PROJECT / "src" / "twinmail" / folder).rglob("*.py"):
            if path.name != "leaving.py":
                words = re.findall(r"""[."](\w+)\b""", path.read_text())
                found |= {operations[one] for one in words if one in operations}
    return found


def test_machines_are_made_with_what_is_called_and_allowed() -> None:
    config = Config.load(PROJECT / "twinmail.toml")
    allowed = actions({one.name: one.document for one in deployer.parts(TEXT, config)}["machines"])
    assert allowed == {f"lightsail:{one}" for one in called("lightsail", ("deploy", "dns"))}


def test_names_are_written_with_what_is_called_and_allowed() -> None:
    config = Config.load(PROJECT / "twinmail.toml")
    allowed = actions({one.name: one.document for one in deployer.parts(TEXT, config)}["names"])
    expected = {f"route53:{one}" for one in called("route53", ("dns",))}
    assert allowed == expected | {f"ses:{one}" for one in called("sesv2", ("dns",))}
    without = replace(config, dns=replace(config.dns, route53=False), servers={})
    assert not {"names", "machines"} & {one.name for one in deployer.parts(TEXT, without)}


def test_stack_of_the_deployer_has_no_permission_for_objects() -> None:
    for one in deployer.parts(TEXT, CONFIG):
        for statement in one.document["Statement"]:
            for resource in listed(statement["Resource"]):
                inside = resource.startswith("arn:aws:s3:::") and "/" in resource
                assert not inside or resource.startswith(f"arn:aws:s3:::{stack.code_bucket(CONFIG)}/")
