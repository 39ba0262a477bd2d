"""The cloud stack: rendered from ``lambda/stack.yaml``, planned as a change set, applied, with its events.

Every function is handed the clients it uses (boto3's ``cloudformation``, ``ses``, ``s3``), so nothing here
knows whether it talks to AWS or to LocalStack.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from twinmail.config import Config
from twinmail.errors import PermanentError, TransientError
from twinmail.function_zip import FunctionZip

CAPABILITIES = ["CAPABILITY_NAMED_IAM"]
POLL_SECONDS = 0.2
WAIT_SECONDS = 900.0

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_FINISHED = re.compile(r"_(COMPLETE|FAILED)$")

Show = Callable[[str], None]


class StackError(PermanentError):
    """CloudFormation refused a change or rolled it back; the text has its reasons and the remedy."""


class StackTimeout(TransientError):
    """CloudFormation did not finish in time."""


@dataclass(frozen=True)
class Change:
    """One resource that a plan adds, modifies or removes."""

    action: str
    logical_id: str
    kind: str
    replacement: bool


@dataclass(frozen=True)
class Plan:
    """A change set that waits for `apply`; empty when everything is as it should be.

    Attributes:
        create: the stack does not exist yet.
    """

    stack: str
    change_set: str
    create: bool
    changes: tuple[Change, ...]


def render(template: str, config: Config) -> dict[str, Any]:
    """The template for *config*: its ``PerServer`` and ``PerDomain`` resources copied into ``Resources``."""
    document: dict[str, Any] = yaml.safe_load(template)
    metadata = document.pop("Metadata")
    for name in config.servers:
        values = {"Server": name, "Id": name.title().replace("-", "")}
        _copy(document, metadata["PerServer"], values["Id"], values)
    for number, domain in enumerate(config.domains, 1):
        _copy(document, metadata["PerDomain"], str(number), {"Domain": domain})
    return document


def _copy(
    document: dict[str, Any], resources: Mapping[str, Any], suffix: str, values: dict[str, str]
) -> None:
    for logical_id, resource in resources.items():
        text = json.dumps(resource)
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", value)
        document["Resources"][f"{logical_id}{suffix}"] = json.loads(text)


def code_bucket(config: Config) -> str:
    """The bucket for the function's zip: the log's own bucket does not exist before the stack does."""
    return f"{config.bucket}-code"


def upload_code(s3: Any, config: Config, function: FunctionZip) -> None:
    """Store the zip under its digest; what is there stays."""
    bucket = code_bucket(config)
    try:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": config.region})
    except s3.exceptions.BucketAlreadyOwnedByYou:
        pass
    except s3.exceptions.BucketAlreadyExists as error:
        raise StackError(
            f"bucket {bucket}: the name belongs to somebody else; choose another bucket in twinmail.toml"
        ) from error
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_object(Bucket=bucket, Key=function.key, Body=function.data)


def plan(cloudformation: Any, template: Path, config: Config, function: FunctionZip) -> Plan:
    """Make a change set for what *template* and *config* say; nothing changes before `apply`.

    Raises:
        StackError: the template is refused, or the stack is in a state that no update leaves.
    """
    status = _status(cloudformation, config.stack)
    if status == "ROLLBACK_COMPLETE":
        # A stack whose creation failed holds nothing and can only be removed.
        cloudformation.delete_stack(StackName=config.stack)
        _wait_gone(cloudformation, config.stack)
        status = None
    if status and status.endswith(("_FAILED", "_IN_PROGRESS")):
        raise StackError(
            f"stack {config.stack}: expected one that can be updated, got {status}; "
            "see its events in the CloudFormation console"
        )
    create = status is None or status == "REVIEW_IN_PROGRESS"
    name = f"twinmail-{time.time_ns()}"
    change_set = cloudformation.create_change_set(
        StackName=config.stack,
        ChangeSetName=name,
        ChangeSetType="CREATE" if create else "UPDATE",
        TemplateBody=json.dumps(render(template.read_text("utf-8"), config)),
        Capabilities=CAPABILITIES,
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in parameters(config, function).items()
        ],
    )["Id"]
    described = _wait_for_change_set(cloudformation, change_set, config.stack)
    if described is None:
        cloudformation.delete_change_set(ChangeSetName=change_set, StackName=config.stack)
        return Plan(config.stack, "", create, ())
    changes = tuple(
        Change(
            one["ResourceChange"]["Action"],
            one["ResourceChange"]["LogicalResourceId"],
            one["ResourceChange"]["ResourceType"],
            one["ResourceChange"].get("Replacement") == "True",
        )
        for one in described.get("Changes", ())
    )
    return Plan(config.stack, change_set, create, changes)


def parameters(config: Config, function: FunctionZip) -> dict[str, str]:
    """Values of the template's parameters."""
    return {
        "Prefix": config.stack,
        "BucketName": config.bucket,
        "Recipients": ",".join(config.receipt_recipients),
        "CodeBucket": code_bucket(config),
        "CodeKey": function.key,
    }


def apply(cloudformation: Any, change: Plan, show: Show) -> None:
    """Execute *change*, showing each event of CloudFormation as it happens.

    Raises:
        StackError: it failed and was rolled back; the text has the reasons.
        StackTimeout: it did not finish.
    """
    if not change.change_set:
        return
    seen = {one["EventId"] for one in _events(cloudformation, change.stack)}
    cloudformation.execute_change_set(ChangeSetName=change.change_set, StackName=change.stack)
    reasons: list[str] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        status = _status(cloudformation, change.stack) or "DELETE_COMPLETE"
        for event in reversed(_events(cloudformation, change.stack)):
            if event["EventId"] not in seen:
                seen.add(event["EventId"])
                state, name = event["ResourceStatus"], event["LogicalResourceId"]
                show(f"{state.lower().replace('_', ' ')}  {name}")
                if state.endswith("_FAILED"):
                    reasons.append(f"{name}: {event.get('ResourceStatusReason', state)}")
        if _FINISHED.search(status) and "IN_PROGRESS" not in status:
            break
        if time.monotonic() > deadline:
            raise StackTimeout(f"stack {change.stack}: still {status} after {WAIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        detail = "\n".join(f"  {one}" for one in reasons) or "  no reason given"
        raise StackError(f"stack {change.stack}: {status}; what failed:\n{detail}\nmend it and deploy again")


def activate(ses: Any, config: Config) -> bool:
    """Make our receipt rule set the active one (CloudFormation cannot); say whether that was a change."""
    active = ses.describe_active_receipt_rule_set().get("Metadata", {}).get("Name")
    if active == config.rule_set:
        return False
    ses.set_active_receipt_rule_set(RuleSetName=config.rule_set)
    return True


def resources(cloudformation: Any, config: Config) -> dict[str, str]:
    """Physical id by logical id of everything in the stack."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=config.stack)
    return {
        one["LogicalResourceId"]: one.get("PhysicalResourceId", "")
        for page in pages
        for one in page["StackResourceSummaries"]
    }


def _status(cloudformation: Any, stack: str) -> str | None:
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except cloudformation.exceptions.ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return str(found[0]["StackStatus"]) if found else None


def _events(cloudformation: Any, stack: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return found


def _wait_for_change_set(cloudformation: Any, change_set: str, stack: str) -> dict[str, Any] | None:
    """The finished change set; None if it changes nothing."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = cloudformation.describe_change_set(ChangeSetName=change_set, StackName=stack)
        if found["Status"] == "CREATE_COMPLETE":
            return found
        if found["Status"] == "FAILED":
            reason = found.get("StatusReason", "no reason given")
            if any(one in reason for one in _NO_CHANGES):
                return None
            raise StackError(f"stack {stack}: CloudFormation refused the template: {reason}")
        time.sleep(POLL_SECONDS)
    raise StackTimeout(f"stack {stack}: no change set after {WAIT_SECONDS:.0f} s")


def _wait_gone(cloudformation: Any, stack: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while _status(cloudformation, stack) not in (None, "DELETE_COMPLETE"):
        if time.monotonic() > deadline:
            raise StackTimeout(f"stack {stack}: not removed after {WAIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
