"""Recorded calls as IAM sees them: which action on which resource each one needs (Service Authorization Reference)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinmail_localstack.policy import allows

# What LocalStack records, in its state folder.
CALLS = "calls.jsonl"

ACCOUNT, REGION = "000000000000", "eu-central-1"

# What S3 calls otherwise in policies; all others are called as the operation.
_S3 = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "ListObjects": "ListBucket",
    "HeadBucket": "ListBucket",
}
_BATCHES = "Batch"


@dataclass(frozen=True)
class Need:
    """What one call needs.

    Attributes:
        who: ``user/NAME`` or ``role/NAME``.
        context: values by condition key.
    """

    who: str
    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def is_met_by(self, policy: Mapping[str, Any]) -> bool:
        """Whether *policy* alone allows it."""
        return allows([policy], self.action, self.resource, self.context)

    def __str__(self) -> str:
        return f"{self.who}: {self.action} on {self.resource} {dict(self.context) or ''}".rstrip()


def needs(path: Path) -> Iterator[Need]:
    """What the calls of users and roles need, from the file that LocalStack has recorded."""
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        who = entry["principal"]
        if not who.startswith(("user/", "role/")):
            continue
        if "action" in entry:
            context = {key: tuple(values) for key, values in entry["context"].items()}
            yield from (Need(who, entry["action"], one, context) for one in entry["resources"])
        elif (entry["service"], entry["operation"]) not in (
            # It is recorded as a message, with its senders.
            ("ses", "SendRawEmail"),
            # LocalStack tries to make the group of a function's log each time; the stack has made it.
            ("logs", "CreateLogGroup"),
        ):
            yield from _needs(who, entry)


def _needs(who: str, entry: Mapping[str, Any]) -> Iterator[Need]:
    service, operation, told = entry["service"], entry["operation"], entry["parameters"]
    if service == "s3":
        bucket = f"arn:aws:s3:::{told['Bucket']}"
        action = f"s3:{_S3.get(operation, operation)}"
        if action == "s3:ListBucket":
            prefix = {"s3:prefix": (told["Prefix"],)} if "Prefix" in told else {}
            yield Need(who, action, bucket, prefix)
            return
        yield Need(who, action, f"{bucket}/{told['Key']}" if "Key" in told else bucket)
        if action == "s3:GetObject" and entry["status"] == 404:
            # Without it the answer is 403, and nobody can tell a missing object from a forbidden one.
            yield Need(who, "s3:ListBucket", bucket)
    elif service == "dynamodb":
        table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{told['TableName']}"
        index = f"/index/{told['IndexName']}" if "IndexName" in told else ""
        yield Need(who, f"dynamodb:{operation}", f"{table}{index}")
    elif service == "sqs":
        queue = told.get("QueueName") or told["QueueUrl"].rpartition("/")[2]
        yield Need(who, f"sqs:{operation.removesuffix(_BATCHES)}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")
    elif service == "sns":
        yield Need(who, f"sns:{operation}", told["TopicArn"])
    elif service == "logs":
        group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{told['logGroupName']}"
        yield Need(who, f"logs:{operation}", f"{group}:log-stream:{told.get('logStreamName', '')}")
    else:
        yield Need(who, f"{service}:{operation}", "*")


def policies(iam: Any) -> dict[str, tuple[dict[str, Any], ...]]:
    """The policies of all users and roles, as CloudFormation made them."""
    found: dict[str, tuple[dict[str, Any], ...]] = {}
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"]
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        found[f"role/{name}"] = tuple(
            iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in inline
        )
    for page in iam.get_paginator("list_users").paginate():
        for user in page["Users"]:
            attached = iam.list_attached_user_policies(UserName=user["UserName"])["AttachedPolicies"]
            found[f"user/{user['UserName']}"] = tuple(document(iam, one["PolicyArn"]) for one in attached)
    return found


def document(iam: Any, arn: str) -> dict[str, Any]:
    """The version of the policy *arn* that counts."""
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    found: dict[str, Any] = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"][
        "Document"
    ]
    return found


def listed(value: Any) -> list[str]:
    """A list, where a policy may have one value alone."""
    return value if isinstance(value, list) else [value]


def actions(policy: Mapping[str, Any]) -> set[str]:
    """All that the statements of *policy* name."""
    return {action for one in policy["Statement"] for action in listed(one["Action"])}
