"""A change of an ``AWS::IAM::ManagedPolicy`` in a stack, which the stock provider does not take."""

import json
from typing import Any

from localstack.runtime import hooks
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.iam.resource_providers.aws_iam_managedpolicy import IAMManagedPolicyProvider

_KEPT_VERSIONS = 4


def _update(provider: Any, request: Any) -> ProgressEvent:
    iam, before = request.aws_client_factory.iam, request.previous_state
    model = {**before, **request.desired_state, "Id": before["Id"]}
    arn = model["Id"]
    others = [
        one for one in iam.list_policy_versions(PolicyArn=arn)["Versions"] if not one["IsDefaultVersion"]
    ]
    for one in sorted(others, key=lambda version: version["CreateDate"])[: -_KEPT_VERSIONS + 1]:
        iam.delete_policy_version(PolicyArn=arn, VersionId=one["VersionId"])
    document = json.dumps(model["PolicyDocument"])
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=True)
    now, was = set(model.get("Users") or ()), set(before.get("Users") or ())
    for user in now - was:
        iam.attach_user_policy(UserName=user, PolicyArn=arn)
    for user in was - now:
        iam.detach_user_policy(UserName=user, PolicyArn=arn)
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def update_managed_policies() -> None:
    """Give the stock provider an update."""
    IAMManagedPolicyProvider.update = _update
