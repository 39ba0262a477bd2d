"""The part of the policies for who looks has what the doctor asks AWS, and nothing else."""

import re
from pathlib import Path

import botocore.session
from botocore import xform_name

from tests.cloud import CONFIG
from twinmail import deployer

PROJECT = Path(__file__).parents[2]
SOURCES = (
    *(PROJECT / "src" / "twinmail" / "doctor").glob("*.py"),
    PROJECT / "src" / "twinmail" / "cost" / "measure.py",
)
SERVICES = (
    *("cloudformation", "cloudwatch", "dynamodb", "freetier", "iam"),
    *("lambda", "route53", "s3", "ses", "sesv2", "sns", "sqs", "sts"),
)
# What is called otherwise in policies (Service Authorization Reference).
ACTIONS = {
    "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListObjectsV2": "s3:ListBucket",
    "sesv2:GetAccount": "ses:GetAccount",
    "sesv2:GetEmailIdentity": "ses:GetEmailIdentity",
}
# Everybody may ask who they are.
FREE = {"sts:GetCallerIdentity"}


def test_who_looks_may_ask_what_is_asked() -> None:
    words = {word for path in SOURCES for word in re.findall(r"""[."](\w+)\b""", path.read_text("utf-8"))}
    asked = set()
    for service in SERVICES:
        names = botocore.session.get_session().get_service_model(service).operation_names
        calls = {f"{service}:{one}" for one in names if xform_name(one) in words}
        asked |= {ACTIONS.get(one, one) for one in calls}
    parts = deployer.parts((PROJECT / "lambda" / "deployer.yaml").read_text("utf-8"), CONFIG)
    (look,) = (one.document for one in parts if one.name == "look")
    listed = [one["Action"] for one in look["Statement"]]
    allowed = {action for one in listed for action in ([one] if isinstance(one, str) else one)}
    assert allowed == asked - FREE
