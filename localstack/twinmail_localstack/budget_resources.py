"""CloudFormation resource of AWS Budgets, which LocalStack lacks: kept by the stack, watched by nobody.

Source of the properties: the CloudFormation template reference, "AWS::Budgets::Budget".
"""

from typing import ClassVar

from localstack.services.cloudformation import provider_utils
from localstack.services.cloudformation.resource_provider import (
    CloudFormationResourceProviderPlugin,
    OperationStatus,
    ProgressEvent,
    ResourceProvider,
    ResourceRequest,
)

# A budget without them is refused.
_REQUIRED = ("BudgetType", "TimeUnit")
_SUBSCRIBERS = 11


class Budget(ResourceProvider):  # type: ignore[misc]
    """``AWS::Budgets::Budget``. As in AWS, other subscribers make another budget."""

    TYPE = "AWS::Budgets::Budget"
    SCHEMA: ClassVar = {
        "typeName": TYPE,
        "primaryIdentifier": ["/properties/Id"],
        "createOnlyProperties": ["/properties/NotificationsWithSubscribers"],
    }

    def create(self, request: ResourceRequest) -> ProgressEvent:
        model = request.desired_state
        missing = [name for name in _REQUIRED if not model["Budget"].get(name)]
        if missing:
            raise ValueError(f"Budget: expected {' and '.join(missing)}, got none")
        for one in model.get("NotificationsWithSubscribers") or ():
            if not 1 <= len(one["Subscribers"]) <= _SUBSCRIBERS:
                raise ValueError(f"Budget: expected 1 to {_SUBSCRIBERS} subscribers of a notification")
        name = model["Budget"].get("BudgetName") or provider_utils.generate_default_name(
            request.stack_name, request.logical_resource_id
        )
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model={**model, "Id": name})

    def update(self, request: ResourceRequest) -> ProgressEvent:
        model = {**request.previous_state, **request.desired_state}
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)

    def delete(self, request: ResourceRequest) -> ProgressEvent:
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model={})


class BudgetPlugin(CloudFormationResourceProviderPlugin):  # type: ignore[misc]
    name = Budget.TYPE

    def load(self, *args: object, **kwargs: object) -> None:
        self.factory = Budget
