"""Leaving: everything that is billed because of us, and its deletion, mail included.

What is there is looked up, not remembered, so a deletion that stopped anywhere is continued by the next.
The log's bucket and the table outlive their stack on purpose (see ``lambda/stack.yaml``); here they end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from twinmail import stack
from twinmail.config import Config
from twinmail.dns import health_check
from twinmail.errors import TransientError

Say = Callable[[str], None]

_BATCH = 1000
_ABSENT = frozenset(
    {
        "NoSuchBucket",
        "NoSuchEntity",
        "NoSuchHealthCheck",
        "NotFoundException",
        "DoesNotExist",
        "ResourceNotFoundException",
    }
)


class NotDeleted(TransientError):
    """AWS refused a call or did not answer; the same command goes on where this one stopped."""


@dataclass(frozen=True)
class Step:
    """One thing to delete.

    Attributes:
        kind: which function of `apply` does it.
        name: as AWS knows it.
        text: for people.
    """

    kind: str
    name: str
    text: str


@dataclass(frozen=True)
class Plan:
    """What there is.

    Attributes:
        remains: what is not ours alone, and is billed on; for people.
    """

    steps: tuple[Step, ...]
    remains: tuple[str, ...]


def plan(config: Config, session: Any, whole: bool = True) -> Plan:
    """Look at what is there; nothing is changed.

    Args:
        session: boto3's, or one with its interface.
        whole: whether there are a Lightsail and a Route 53 to ask.

    Raises:
        NotDeleted: transient.
    """
    try:
        steps = (
            *_receiving(config, session.client("ses")),
            *(_machines(config, session.client("lightsail")) if whole else ()),
            *(_health_checks(config, session.client("route53")) if whole else ()),
            *_stack(config, session),
            *_buckets(config, session.client("s3")),
            *_table(config, session.client("dynamodb")),
        )
        return Plan(steps, tuple(_zones(config, session.client("route53"))) if whole else ())
    except (BotoCoreError, ClientError) as error:
        raise NotDeleted(f"{error}; check the credentials and the region") from error


def apply(session: Any, steps: tuple[Step, ...], say: Say, pause: float = 5.0) -> None:
    """Do *steps* in order.

    Args:
        pause: seconds from look to look at the stack.

    Raises:
        NotDeleted: transient; what was done stays done.
    """
    for step in steps:
        say(step.text)
        try:
            _ACTS[step.kind](session, step.name, say, pause)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _ABSENT:
                raise NotDeleted(f"{step.text}: {error}; run the same command again") from error
        except (BotoCoreError, WaiterError) as error:
            raise NotDeleted(f"{step.text}: {error}; run the same command again") from error


# What there is


def _receiving(config: Config, ses: Any) -> Iterator[Step]:
    active = ses.describe_active_receipt_rule_set().get("Metadata", {}).get("Name")
    if active == config.rule_set:
        yield Step("receiving", active, f"receive no more mail (receipt rule set {active})")


def _machines(config: Config, lightsail: Any) -> Iterator[Step]:
    names = [f"{config.stack}-{name}" for name, one in config.servers.items() if one.lightsail]
    for name in names:
        if _is_there(lightsail.get_instance, instanceName=name):
            yield Step("instance", name, f"delete the machine {name} with its daily snapshots")
        if _is_there(lightsail.get_static_ip, staticIpName=f"{name}-ip"):
            yield Step("static-ip", f"{name}-ip", f"release the address {name}-ip")
        for one in lightsail.get_instance_snapshots()["instanceSnapshots"]:
            if one.get("fromInstanceName") == name:
                yield Step("snapshot", one["name"], f"delete the snapshot {one['name']}")
        for one in lightsail.get_key_pairs()["keyPairs"]:
            # An import's name ends with eight digits of the key (see `twinmail.deploy.lightsail`).
            if one["name"].rpartition("-")[0] == name:
                yield Step("key-pair", one["name"], f"forget the SSH key {one['name']}")


def _health_checks(config: Config, route53: Any) -> Iterator[Step]:
    for one in health_check.read(route53, config):
        host = one.document.get("FullyQualifiedDomainName", "a server")
        yield Step("health-check", one.id, f"delete the health check of {host}")


def _stack(config: Config, session: Any) -> Iterator[Step]:
    cloudformation, iam = session.client("cloudformation"), session.client("iam")
    try:
        pages = list(cloudformation.get_paginator("list_stack_resources").paginate(StackName=config.stack))
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
        return
    for one in (resource for page in pages for resource in page["StackResourceSummaries"]):
        if one["ResourceType"] != "AWS::IAM::User" or not one.get("PhysicalResourceId"):
            continue
        user = one["PhysicalResourceId"]
        try:
            keys = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
        except iam.exceptions.NoSuchEntityException:
            continue
        for key in keys:
            # IAM deletes no user that has keys.
            text = f"delete the access key {key['AccessKeyId']} of {user}"
            yield Step("access-key", f"{user}/{key['AccessKeyId']}", text)
    yield Step("stack", config.stack, f"delete the stack {config.stack}")


def _buckets(config: Config, s3: Any) -> Iterator[Step]:
    for name, what in ((config.bucket, "all mail"), (stack.code_bucket(config), "the function's sources")):
        try:
            s3.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in (*_ABSENT, "404"):
                raise
            continue
        yield Step("bucket", name, f"delete the bucket {name} with {what}")


def _table(config: Config, dynamodb: Any) -> Iterator[Step]:
    if _is_there(dynamodb.describe_table, TableName=config.table):
        yield Step("table", config.table, f"delete the table {config.table}")


def _zones(config: Config, route53: Any) -> Iterator[str]:
    for domain in config.domains:
        for one in route53.list_hosted_zones_by_name(DNSName=domain)["HostedZones"]:
            if one["Name"].rstrip(".") == domain:
                yield (
                    f"the zone of {domain} in Route 53, $0.50 a month: delete it in the console when the "
                    "domain has its name servers elsewhere"
                )


def _is_there(describe: Callable[..., Any], **arguments: str) -> bool:
    try:
        describe(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ABSENT:
            raise
        return False
    return True


# Its end


def _delete_instance(session: Any, name: str, say: Say, pause: float) -> None:
    # Without this, Lightsail refuses while a snapshot is being taken.
    session.client("lightsail").delete_instance(instanceName=name, forceDeleteAddOns=True)


def _delete_access_key(session: Any, name: str, say: Say, pause: float) -> None:
    user, _, key = name.partition("/")
    session.client("iam").delete_access_key(UserName=user, AccessKeyId=key)


def _delete_stack(session: Any, name: str, say: Say, pause: float) -> None:
    cloudformation = session.client("cloudformation")
    cloudformation.delete_stack(StackName=name)
    waiter = cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=name, WaiterConfig={"Delay": pause, "MaxAttempts": 240})


def _delete_bucket(session: Any, name: str, say: Say, pause: float) -> None:
    s3 = session.client("s3")
    deleted = 0
    for page in s3.get_paginator("list_object_versions").paginate(
        Bucket=name, PaginationConfig={"PageSize": _BATCH}
    ):
        objects = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        ]
        if objects:
            # Quiet: it answers with what it could not delete, and that fails below as "not empty".
            s3.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})
            deleted += len(objects)
            say(f"  {deleted} versions of objects")
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for one in page.get("Uploads", ()):
            s3.abort_multipart_upload(Bucket=name, Key=one["Key"], UploadId=one["UploadId"])
    s3.delete_bucket(Bucket=name)


def _calling(service: str, method: str, argument: str, **more: Any) -> Callable[[Any, str, Say, float], None]:
    def act(session: Any, name: str, say: Say, pause: float) -> None:
        getattr(session.client(service), method)(**{argument: name}, **more)

    return act


def _stop_receiving(session: Any, name: str, say: Say, pause: float) -> None:
    # Without a name none is active; SES then refuses what comes.
    session.client("ses").set_active_receipt_rule_set()


_ACTS: dict[str, Callable[[Any, str, Say, float], None]] = {
    "receiving": _stop_receiving,
    "instance": _delete_instance,
    "static-ip": _calling("lightsail", "release_static_ip", "staticIpName"),
    "snapshot": _calling("lightsail", "delete_instance_snapshot", "instanceSnapshotName"),
    "key-pair": _calling("lightsail", "delete_key_pair", "keyPairName"),
    "health-check": _calling("route53", "delete_health_check", "HealthCheckId"),
    "access-key": _delete_access_key,
    "stack": _delete_stack,
    "bucket": _delete_bucket,
    "table": _calling("dynamodb", "delete_table", "TableName"),
}
