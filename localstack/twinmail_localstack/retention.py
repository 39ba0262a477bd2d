"""What the stock providers of buckets and log groups drop without a word: lifecycle rules, days of retention.

They are handed to S3 and CloudWatch Logs, which check them as AWS does, at each change of the stack.
"""

from collections.abc import Mapping
from typing import Any

from localstack.runtime import hooks
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.logs.resource_providers.aws_logs_loggroup import LogsLogGroupProvider
from localstack.services.s3.resource_providers.aws_s3_bucket import S3BucketProvider

_FILTERS = {"Prefix": str, "ObjectSizeGreaterThan": int, "ObjectSizeLessThan": int}


def lifecycle_rule(properties: Mapping[str, Any]) -> dict[str, Any]:
    """A ``Rule`` of the S3 API from the one of a template, where numbers may be text."""
    rule: dict[str, Any] = {"Status": properties["Status"]}
    if "Id" in properties:
        rule["ID"] = properties["Id"]
    found: dict[str, Any] = {
        name: kind(properties[name]) for name, kind in _FILTERS.items() if name in properties
    }
    if tags := properties.get("TagFilters"):
        found["Tags"] = [{"Key": one["Key"], "Value": one["Value"]} for one in tags]
    rule["Filter"] = _filter(found)
    expiration: dict[str, Any] = {}
    if "ExpirationInDays" in properties:
        expiration["Days"] = int(properties["ExpirationInDays"])
    if _true(properties.get("ExpiredObjectDeleteMarker")):
        expiration["ExpiredObjectDeleteMarker"] = True
    if expiration:
        rule["Expiration"] = expiration
    if old := properties.get("NoncurrentVersionExpiration"):
        rule["NoncurrentVersionExpiration"] = {name: int(value) for name, value in old.items()}
    if unfinished := properties.get("AbortIncompleteMultipartUpload"):
        rule["AbortIncompleteMultipartUpload"] = {name: int(value) for name, value in unfinished.items()}
    if moves := properties.get("Transitions"):
        rule["Transitions"] = [
            {"Days": int(one["TransitionInDays"]), "StorageClass": one["StorageClass"]} for one in moves
        ]
    return rule


def _filter(found: Mapping[str, Any]) -> dict[str, Any]:
    """One condition stands by itself, several under ``And``."""
    if list(found) == ["Tags"] and len(found["Tags"]) == 1:
        return {"Tag": found["Tags"][0]}
    if not found:
        return {"Prefix": ""}
    return dict(found) if len(found) == 1 and "Tags" not in found else {"And": dict(found)}


def _true(value: Any) -> bool:
    return str(value).lower() == "true"


def _bucket(request: Any, model: Mapping[str, Any]) -> None:
    s3, name = request.aws_client_factory.s3, model["BucketName"]
    if rules := (model.get("LifecycleConfiguration") or {}).get("Rules"):
        wanted = {"Rules": [lifecycle_rule(one) for one in rules]}
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=wanted)
    else:
        s3.delete_bucket_lifecycle(Bucket=name)


def _group(request: Any, model: Mapping[str, Any]) -> None:
    logs, name = request.aws_client_factory.logs, model["LogGroupName"]
    if days := model.get("RetentionInDays"):
        logs.put_retention_policy(logGroupName=name, retentionInDays=int(days))
    else:
        logs.delete_retention_policy(logGroupName=name)


def _completing(create: Any, complete: Any) -> Any:
    def run(provider: Any, request: Any) -> ProgressEvent:
        event = create(provider, request)
        if event.status == OperationStatus.SUCCESS:
            complete(request, event.resource_model)
        return event

    return run


def _updating(complete: Any) -> Any:
    def run(provider: Any, request: Any) -> ProgressEvent:
        model = {**request.previous_state, **request.desired_state}
        # A list of rules that is gone from the template is gone, not the one from before.
        for name in set(request.previous_state) & {"LifecycleConfiguration", "RetentionInDays"}:
            model[name] = request.desired_state.get(name)
        complete(request, model)
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)

    return run


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def keep_retention() -> None:
    """Let the stock providers do the rest of their work."""
    S3BucketProvider.create = _completing(S3BucketProvider.create, _bucket)
    S3BucketProvider.update = _updating(_bucket)
    LogsLogGroupProvider.create = _completing(LogsLogGroupProvider.create, _group)
    LogsLogGroupProvider.update = _updating(_group)
