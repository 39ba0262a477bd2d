"""From the stack that people have to the one of these sources: the log and the index stay what they are."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from tests.contract import previous_stack
from tests.contract.deployed import Deployed
from twinmail import stack
from twinmail.config import Config
from twinmail.function_zip import FunctionZip, build_function
from twinmail.stack_template import render
from twinmail.tasks.config import PROJECT

TEMPLATE = PROJECT / "lambda" / "stack.yaml"
PREVIOUS = previous_stack.load()
KEY, BODY = "processed/2026/11/22/kept.eml", b"Subject: kept\r\n\r\nbody\r\n"
ITEM = {"mailbox": {"S": "ann"}, "position": {"S": "1"}, "ses_id": {"S": "kept"}}
KEPT = ("Bucket", "Table")
NAMING = ("Prefix", "BucketName")


@dataclass(frozen=True)
class Upgrade:
    """What was there before, what the plan said, and the plan after it."""

    config: Config
    session: Any
    before: dict[str, Any]
    plan: stack.Plan
    again: stack.Plan


def identities(session: Any, config: Config) -> dict[str, Any]:
    """What would differ in another bucket or table of the same name."""
    s3 = session.client("s3")
    table = session.client("dynamodb").describe_table(TableName=config.table)["Table"]
    (bucket,) = [one for one in s3.list_buckets()["Buckets"] if one["Name"] == config.bucket]
    return {
        "bucket": bucket["CreationDate"],
        "version": s3.head_object(Bucket=config.bucket, Key=KEY)["VersionId"],
        "table": (table["TableArn"], table["CreationDateTime"]),
    }


def code(folder: Path) -> Any:
    config_file = folder / "twinmail.toml"
    config_file.write_text(previous_stack.TOML)
    return build_function(PROJECT / "src", PROJECT / "lambda" / "handler.py", config_file)


@pytest.fixture(scope="module")
def upgrade(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Upgrade:
    session, config = deployed.session, Config.parse(previous_stack.TOML)
    function = code(tmp_path_factory.mktemp("upgrade"))
    cloudformation, s3 = session.client("cloudformation"), session.client("s3")
    stack.upload_code(s3, config, function)
    values = {**PREVIOUS.parameters, "CodeKey": function.key}
    change_set = cloudformation.create_change_set(
        StackName=config.stack,
        ChangeSetName="previous",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps(PREVIOUS.template),
        Capabilities=stack.CAPABILITIES,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
    )["Id"]
    cloudformation.get_waiter("change_set_create_complete").wait(ChangeSetName=change_set)
    stack.apply(cloudformation, stack.Plan(config.stack, change_set, True, ()), print)
    s3.put_object(Bucket=config.bucket, Key=KEY, Body=BODY)
    session.client("dynamodb").put_item(TableName=config.table, Item=ITEM)
    before = identities(session, config)
    plan = stack.plan(cloudformation, TEMPLATE, config, function, s3)
    stack.apply(cloudformation, plan, print)
    again = stack.plan(cloudformation, TEMPLATE, config, function, s3)
    return Upgrade(config, session, before, plan, again)


def test_plan_keeps_bucket_and_table_and_changes_something_else(upgrade: Upgrade) -> None:
    changes = {one.logical_id: one for one in upgrade.plan.changes}
    assert not upgrade.plan.create
    now = render(TEMPLATE.read_text(), upgrade.config)["Resources"]
    assert changes or now == PREVIOUS.template["Resources"]
    for name in KEPT:
        if name in changes:
            assert (changes[name].action, changes[name].replacement) == ("Modify", False), changes[name]


def test_bucket_and_table_are_the_same_ones_with_what_was_in_them(upgrade: Upgrade) -> None:
    assert identities(upgrade.session, upgrade.config) == upgrade.before
    s3, dynamodb = upgrade.session.client("s3"), upgrade.session.client("dynamodb")
    assert s3.get_object(Bucket=upgrade.config.bucket, Key=KEY)["Body"].read() == BODY
    key = {name: ITEM[name] for name in ("mailbox", "position")}
    assert dynamodb.get_item(TableName=upgrade.config.table, Key=key)["Item"] == ITEM


def test_upgraded_stack_is_the_one_of_the_template(upgrade: Upgrade) -> None:
    assert upgrade.again.changes == ()
    wanted = render(TEMPLATE.read_text(), upgrade.config)["Resources"]
    made = {name for name, one in wanted.items() if one.get("Condition") != "Told"}
    found = stack.resources(upgrade.session.client("cloudformation"), upgrade.config)
    assert set(found) == made
    assert not [name for name, physical in found.items() if not physical or physical == "unknown"]
    s3 = upgrade.session.client("s3")
    rules = s3.get_bucket_lifecycle_configuration(Bucket=upgrade.config.bucket)["Rules"]
    assert {one["ID"] for one in rules} == {"abort-unfinished-uploads", "forget-deleted-and-replaced"}


@pytest.mark.parametrize("name", KEPT)
def test_nothing_changes_that_would_make_a_new_one_in_aws(name: str) -> None:
    """LocalStack says less of replacements than CloudFormation: the resource's own schema says which they are."""
    config = Config.parse(previous_stack.TOML)
    then, now = PREVIOUS.template["Resources"][name], render(TEMPLATE.read_text(), config)["Resources"][name]
    assert (then["Type"], then["DeletionPolicy"], then["UpdateReplacePolicy"]) == (
        now["Type"],
        now["DeletionPolicy"],
        now["UpdateReplacePolicy"],
    )
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(config.region, now["Type"]).schema
    fixed = [one.removeprefix("/properties/").split("/")[0] for one in schema["createOnlyProperties"]]
    assert fixed
    for one in fixed:
        assert then["Properties"].get(one) == now["Properties"].get(one), one
    values = stack.parameters(config, FunctionZip(b"", "0" * 64))
    # What names are made of.
    assert [PREVIOUS.parameters[one] for one in NAMING] == [values[one] for one in NAMING]
