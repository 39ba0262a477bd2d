"""A recorded deployment as IAM sees it: what its user calls, and what CloudFormation calls in the user's name."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.deploy.recorded_calls import ACCOUNT, REGION, Need

VIA = {"aws:CalledVia": ("cloudformation.amazonaws.com",)}

# The key that LocalStack's CloudFormation works with, and also CloudWatch and EventBridge for themselves.
_SERVICES = f"key/{ACCOUNT}"
_OWN = {
    ("cloudwatch", "DescribeAlarms"),
    ("cloudwatch", "GetMetricData"),
    ("cloudwatch", "PutMetricData"),
    ("cloudwatch", "SetAlarmState"),
    ("lambda", "Invoke"),
    ("sns", "Publish"),
}

# What is called otherwise in policies (Service Authorization Reference), or by LocalStack, which has but the first
# version of SES's API where CloudFormation speaks the second.
_ACTIONS = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "ses:VerifyDomainIdentity": "ses:CreateEmailIdentity",
    "ses:VerifyDomainDkim": "ses:PutEmailIdentityDkimAttributes",
    "ses:SetIdentityMailFromDomain": "ses:PutEmailIdentityMailFromAttributes",
    "ses:DeleteIdentity": "ses:DeleteEmailIdentity",
}

# Of the parameters, the one that names the resource, and the ARN with that name in it.
_RESOURCES = {
    "cloudformation": (("StackName",), "arn:aws:cloudformation:{region}:{account}:stack/{name}/id"),
    "cloudwatch": (("AlarmName",), "arn:aws:cloudwatch:{region}:{account}:alarm:{name}"),
    "dynamodb": (("TableName",), "arn:aws:dynamodb:{region}:{account}:table/{name}"),
    "events": (("Rule", "Name"), "arn:aws:events:{region}:{account}:rule/{name}"),
    "lambda": (("FunctionName",), "arn:aws:lambda:{region}:{account}:function:{name}"),
    "logs": (("logGroupName",), "arn:aws:logs:{region}:{account}:log-group:{name}"),
    "ses": (("Identity", "Domain"), "arn:aws:ses:{region}:{account}:identity/{name}"),
    "sns": (("TopicArn", "Name"), "arn:aws:sns:{region}:{account}:{name}"),
    "sqs": (("QueueName", "QueueUrl"), "arn:aws:sqs:{region}:{account}:{name}"),
}
_IAM = {"UserName": "user", "RoleName": "role", "PolicyName": "policy"}


def needs(path: Path, user: str, stack: str) -> Iterator[Need]:
    """What the calls in *path* need of who deploys *stack*: those of *user*, and CloudFormation's."""
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if "action" in entry:
            continue
        call = (entry["service"], entry["operation"])
        if entry["principal"] == f"user/{user}":
            yield from _needs(entry, stack, {})
        elif entry["internal"] and entry["principal"] == _SERVICES and call not in _OWN:
            yield from _needs(entry, stack, VIA)


def _needs(entry: Mapping[str, Any], stack: str, via: Mapping[str, tuple[str, ...]]) -> Iterator[Need]:
    service, told = entry["service"], entry["parameters"]
    action = f"{service}:{entry['operation']}"
    action = _ACTIONS.get(action, action)
    context = dict(via)
    if action in ("iam:AttachUserPolicy", "iam:DetachUserPolicy"):
        context["iam:PolicyARN"] = (told["PolicyArn"],)
    yield Need("deployer", action, _resource(service, entry["operation"], told, stack), context)
    if action == "lambda:CreateFunction":
        passed = {**via, "iam:PassedToService": ("lambda.amazonaws.com",)}
        yield Need("deployer", "iam:PassRole", told["Role"], passed)


def _resource(service: str, operation: str, told: Mapping[str, Any], stack: str) -> str:
    places = {"region": REGION, "account": ACCOUNT}
    if service == "s3":
        return f"arn:aws:s3:::{told['Bucket']}" + (f"/{told['Key']}" if "Key" in told else "")
    if service == "iam":
        if arn := told.get("PolicyArn") if "UserName" not in told else None:
            return str(arn)
        kind = next(name for name in _IAM if name in told)
        return f"arn:aws:iam::{ACCOUNT}:{_IAM[kind]}/{told[kind]}"
    if operation.endswith(("ConfigurationSet", "ConfigurationSetEventDestination")):
        # A structure, which the record leaves out.
        return f"arn:aws:ses:{REGION}:{ACCOUNT}:configuration-set/{told.get('ConfigurationSetName', stack)}"
    names, arn = _RESOURCES[service]
    named = next((str(told[name]) for name in names if name in told), "")
    if not named or named.startswith("arn:"):
        return named or "*"
    return arn.format(name=named.rpartition("/")[2] if service == "sqs" else named, **places)
