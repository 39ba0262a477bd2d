"""Leaving: after it, nothing is there that is billed, and nothing of anybody else is gone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import CONFIG, TOML
from tests.localstack_process import REGION, LocalStackProcess
from twinmail import stack
from twinmail.access_key import AccessKeys
from twinmail.deploy import leaving
from twinmail.local import cloud
from twinmail.local.deployment import deploy
from twinmail.runtime.interface import Runtime

# Of each service: what lists what is billed, or would be in the way of deploying again.
LISTS = {
    "s3": ("list_buckets", "Buckets"),
    "dynamodb": ("list_tables", "TableNames"),
    "sqs": ("list_queues", "QueueUrls"),
    "sns": ("list_topics", "Topics"),
    "lambda": ("list_functions", "Functions"),
    "logs": ("describe_log_groups", "logGroups"),
    "cloudwatch": ("describe_alarms", "MetricAlarms"),
    "iam": ("list_users", "Users"),
    "events": ("list_rules", "Rules"),
    "ses": ("list_receipt_rule_sets", "RuleSets"),
}


def there(session: Any) -> dict[str, Any]:
    """Everything that is there."""
    found = {
        name: getattr(session.client(name), method)().get(part, []) for name, (method, part) in LISTS.items()
    }
    return {name: what for name, what in found.items() if what}


@pytest.fixture
def alone(runtime: Runtime, tmp_path: Path) -> Any:
    """A cloud of its own: in the shared one others are at work."""
    process = LocalStackProcess(runtime, tmp_path, "leaving")
    try:
        process.start()
        yield cloud.session(process.endpoint, REGION)
    finally:
        process.stop()


def test_nothing_billed_remains(alone: Any, tmp_path: Path) -> None:
    config_file = tmp_path / "twinmail.toml"
    config_file.write_text(TOML)
    assert there(alone) == {} and leaving.plan(CONFIG, alone, whole=False).steps == ()
    s3 = alone.client("s3")
    s3.create_bucket(Bucket="another", CreateBucketConfiguration={"LocationConstraint": REGION})
    deploy(CONFIG, config_file, alone, lambda _: None)
    for number in range(3):
        for _ in range(2):
            s3.put_object(Bucket=CONFIG.bucket, Key=f"processed/{number}", Body=b"x")
    s3.delete_object(Bucket=CONFIG.bucket, Key="processed/0")
    s3.create_multipart_upload(Bucket=CONFIG.bucket, Key="incoming/large")
    for user in (CONFIG.syncer_user("primary"), CONFIG.smtp_user("ann")):
        AccessKeys(alone.client("iam"), user).create()
    found = leaving.plan(CONFIG, alone, whole=False)
    assert [one.kind for one in found.steps] == [
        "receiving",
        "access-key",
        "access-key",
        "stack",
        "bucket",
        "bucket",
        "table",
    ]
    assert {one.name for one in found.steps if one.kind == "bucket"} == {
        CONFIG.bucket,
        stack.code_bucket(CONFIG),
    }
    # Another configuration finds nothing of this one.
    other = replace(CONFIG, stack="other", bucket="other-mail")
    assert leaving.plan(other, alone, whole=False).steps == ()
    leaving.apply(alone, found.steps, print, pause=0.5)
    left = there(alone)
    assert [one["Name"] for one in left.pop("s3")] == ["another"]
    assert left == {}
    assert leaving.plan(CONFIG, alone, whole=False).steps == ()
