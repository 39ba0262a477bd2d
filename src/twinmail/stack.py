"""The cloud stack: rendered from ``lambda/stack.yaml``, planned as a change set, applied, with its events.

Every function is handed the clients it uses (boto3's ``cloudformation``, ``ses``, ``s3``), so nothing here
knows whether it talks to AWS or to LocalStack.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmail.config import Config
from twinmail.errors import PermanentError, TransientError
from twinmail.function_zip import FunctionZip
from twinmail.stack_template import render

CAPABILITIES = ["CAPABILITY_NAMED_IAM"]
WAIT_SECONDS = 900.0
# LocalStack is done in seconds, AWS in minutes and with limits on how often one may ask.
POLL_SECONDS = (0.1, 2.0)

SES_RECIPIENTS = 100
"""Recipients of one receipt rule (SES Developer Guide, "Service quotas")."""

INLINE_OCTETS = 51_200
"""Octets of a template in the request itself; a larger one, up to 1 MB, is read from S3."""

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_STACK = "AWS::CloudFormation::Stack"
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
_GONE = frozenset({None, "DELETE_COMPLETE"})
_REMEDIES = {
    "ROLLBACK_FAILED": "delete the stack in the CloudFormation console, then deploy again",
    "DELETE_FAILED": "delete the stack in the CloudFormation console, then deploy again",
    "CREATE_FAILED": "delete the stack in the CloudFormation console, then deploy again",
    "UPDATE_ROLLBACK_FAILED": 'choose "continue update rollback" in the CloudFormation console, '
    "then deploy again",
}

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


def code_bucket(config: Config) -> str:
    """The bucket for the function's zip: the log's own bucket does not exist before the stack does."""
    return f"{config.bucket}-code"


def upload_code(s3: Any, config: Config, function: FunctionZip) -> None:
    """Store the zip under its digest, in a bucket of its own that is made when it is not there.

    Raises:
        StackError: the bucket's name belongs to somebody else.
    """
    bucket = code_bucket(config)
    # The one region that must not be named.
    place = {} if config.region == "us-east-1" else {"LocationConstraint": config.region}
    try:
        s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
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


def plan(
    cloudformation: Any,
    template: Path,
    config: Config,
    function: FunctionZip,
    s3: Any = None,
    keep: bool = True,
) -> Plan:
    """Make a change set for what *template* and *config* say; nothing that exists changes before `apply`.

    A template that is too large for the request goes by way of the code's bucket, which `upload_code` makes.
    With *keep*, what is left of a stack whose creation failed is removed: it holds nothing and takes no
    change set. Without, and where there is no stack to compare with, all is new, and no change set is made.

    Raises:
        TemplateError, SendingPolicyError: the configuration gives no template that CloudFormation takes.
        StackError: the template is refused, or the stack is in a state that no update leaves.
        StackTimeout: CloudFormation did not finish in time.
    """
    status = _status(cloudformation, config.stack)
    document = render(template.read_text("utf-8"), config)
    text = json.dumps(document, separators=(",", ":"))
    if not keep and (status == "ROLLBACK_COMPLETE" or (status in _GONE and len(text) > INLINE_OCTETS)):
        new = [Change("Add", name, one["Type"], False) for name, one in document["Resources"].items()]
        return Plan(config.stack, "", True, tuple(new))
    if status == "ROLLBACK_COMPLETE":
        cloudformation.delete_stack(StackName=config.stack)
        _wait_gone(cloudformation, config.stack)
        status = None
    # Under review: an earlier plan was made and not applied.
    create = status in _GONE or status == "REVIEW_IN_PROGRESS"
    if not create and status and status.endswith("_IN_PROGRESS"):
        raise StackError(
            f"stack {config.stack}: expected one at rest, got {status}; wait for the other deployment to end"
        )
    if status in _REMEDIES:
        raise StackError(
            f"stack {config.stack}: expected one that can be updated, got {status}; {_REMEDIES[status]}"
        )
    name = f"twinmail-{time.time_ns()}"
    change_set = cloudformation.create_change_set(
        StackName=config.stack,
        ChangeSetName=name,
        ChangeSetType="CREATE" if create else "UPDATE",
        **_body(text, config, s3),
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


def _body(text: str, config: Config, s3: Any) -> dict[str, str]:
    """How CloudFormation gets the template *text*: in the request, or by way of the code's bucket."""
    if len(text) <= INLINE_OCTETS:
        return {"TemplateBody": text}
    if s3 is None:
        raise StackError(f"a template of {len(text)} octets: expected S3 to put it there, got none")
    bucket, key = code_bucket(config), f"template/{hashlib.sha256(text.encode()).hexdigest()}.json"
    s3.put_object(Bucket=bucket, Key=key, Body=text.encode("ascii"))
    return {"TemplateURL": f"https://{bucket}.s3.{config.region}.amazonaws.com/{key}"}


def parameters(config: Config, function: FunctionZip) -> dict[str, str]:
    """Values of the template's parameters.

    Raises:
        StackError: more addresses than a receipt rule takes.
    """
    recipients = config.receipt_recipients
    if len(recipients) > SES_RECIPIENTS:
        raise StackError(
            f"{len(recipients)} addresses for the receipt rule: SES takes {SES_RECIPIENTS}; "
            "give a mailbox the catch-all *@domain in twinmail.toml, which counts once"
        )
    return {
        "Prefix": config.stack,
        "BucketName": config.bucket,
        "Recipients": ",".join(recipients),
        "CodeBucket": code_bucket(config),
        "CodeKey": function.key,
        "Operator": config.operator or "",
        "MonthUsd": f"{config.budget.month_usd:.2f}",
        "LogDays": str(config.retention.log_days),
        "DeletedDays": str(config.retention.deleted_days),
        "ArchiveDays": str(config.retention.archive_days),
        "ExpireOriginalsDays": str(config.packs.expire_originals_days),
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
    status = "not started"
    for _ in _polls(f"stack {change.stack}: not finished"):
        for event in reversed(_events(cloudformation, change.stack)):
            if event["EventId"] in seen:
                continue
            seen.add(event["EventId"])
            state, name = event["ResourceStatus"], event["LogicalResourceId"]
            show(f"{state.lower().replace('_', ' ')}  {name}")
            if state.endswith("_FAILED"):
                reasons.append(f"{name}: {event.get('ResourceStatusReason', state)}")
            # The stack's own event, not its status: right after the start that is still the old one.
            if event["ResourceType"] == _STACK and name == change.stack:
                status = state
        if status.endswith(("_COMPLETE", "_FAILED")):
            break
    if status not in _GOOD:
        detail = "\n".join(f"  {one}" for one in reasons) or "  no reason given"
        remedy = _REMEDIES.get(status, "mend it and deploy again")
        raise StackError(f"stack {change.stack}: {status}; what failed:\n{detail}\n{remedy}")


def forget(cloudformation: Any, change: Plan) -> None:
    """Remove the change set of *change*, and the empty stack that CloudFormation made to hold it."""
    cloudformation.delete_change_set(ChangeSetName=change.change_set, StackName=change.stack)
    if change.create and _status(cloudformation, change.stack) == "REVIEW_IN_PROGRESS":
        cloudformation.delete_stack(StackName=change.stack)
        _wait_gone(cloudformation, change.stack)


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
    found: dict[str, Any]
    for _ in _polls(f"stack {stack}: no change set"):
        found = cloudformation.describe_change_set(ChangeSetName=change_set, StackName=stack)
        if found["Status"] == "CREATE_COMPLETE":
            break
        if found["Status"] == "FAILED":
            reason = found.get("StatusReason", "no reason given")
            if any(one in reason for one in _NO_CHANGES):
                return None
            raise StackError(f"stack {stack}: CloudFormation refused the template: {reason}")
    return found


def _wait_gone(cloudformation: Any, stack: str) -> None:
    for _ in _polls(f"stack {stack}: not removed"):
        if _status(cloudformation, stack) in _GONE:
            break


def _polls(what: str) -> Iterator[None]:
    """Yield at growing intervals; when it takes too long, say *what* did not happen."""
    interval, longest = POLL_SECONDS
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        yield
        time.sleep(interval)
        interval = min(interval * 1.5, longest)
    raise StackTimeout(f"{what} after {WAIT_SECONDS:.0f} s; see its events in the CloudFormation console")
