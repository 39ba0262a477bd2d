"""``AWS::IAM::ManagedPolicy`` in a stack: changes, which the stock provider does not take, and removal.

LocalStack removes a user before the policy that refers to it, and IAM removes no user with a policy. So the
user lets go of its policies, and the policy does not mind that the user is gone.
"""

import contextlib
import json
from typing import Any

from localstack.runtime import hooks
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.iam.resource_providers.aws_iam_managedpolicy import IAMManagedPolicyProvider
from localstack.services.iam.resource_providers.aws_iam_user import IAMUserProvider

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


def _delete(provider: Any, request: Any) -> ProgressEvent:
    iam, model = request.aws_client_factory.iam, request.previous_state
    for kind in ("Role", "User", "Group"):
        detach = getattr(iam, f"detach_{kind.lower()}_policy")
        for name in model.get(f"{kind}s") or ():
            with contextlib.suppress(iam.exceptions.NoSuchEntityException):
                detach(**{f"{kind}Name": name, "PolicyArn": model["Id"]})
    iam.delete_policy(PolicyArn=model["Id"])
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)


def _letting_go(delete: Any) -> Any:
    def run(provider: Any, request: Any) -> ProgressEvent:
        iam, name = request.aws_client_factory.iam, request.desired_state["Id"]
        for one in iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]:
            iam.detach_user_policy(UserName=name, PolicyArn=one["PolicyArn"])
        return delete(provider, request)

    return run


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def update_managed_policies() -> None:
    """Give the stock providers an update and an order."""
    IAMManagedPolicyProvider.update = _update
    IAMManagedPolicyProvider.delete = _delete
    IAMUserProvider.delete = _letting_go(IAMUserProvider.delete)
