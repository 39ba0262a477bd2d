"""What this LocalStack supports, told from what is installed and not by the vendor's server.

The first request makes LocalStack read the specifications of all AWS services, 400: 5 seconds and 300 MB
that only the services which can be called here are worth.

The stock catalogue asks a server on the Internet, from every change set. The name of the plugin is the one
that LocalStack prefers when it exists.
"""

from localstack.aws import spec
from localstack.runtime import hooks
from localstack.services.cloudformation.resource_provider import plugin_manager
from localstack.utils.catalog.catalog import CatalogPlugin
from localstack.utils.catalog.common import (
    CloudFormationResourcesSupportAtRuntime,
    CloudFormationResourcesSupportInLatest,
)

from twinmail_localstack.settings import SERVICES


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def know_only_services() -> None:
    """Let the index of services have only those that this LocalStack runs."""
    # SQS is spoken in two protocols, which LocalStack keeps as two specifications.
    spec.list_services = lambda: [spec.load_service(name) for name in (*SERVICES, "sqs-query")]


class InstalledCatalog(CatalogPlugin):  # type: ignore[misc]
    """Says of a resource type whether a provider of it is installed, and nothing of services."""

    name = "aws-catalog-remote-state-with-license"

    def get_aws_service_status(self, service_name: str, operation_name: str | None = None) -> None:
        """No better message than LocalStack's own is known."""

    def get_cloudformation_resource_status(
        self, resource_name: str, service_name: str, is_pro_resource: bool = False
    ) -> CloudFormationResourcesSupportAtRuntime | CloudFormationResourcesSupportInLatest:
        """Whether CloudFormation can create a *resource_name* (``AWS::S3::Bucket``)."""
        if plugin_manager.exists(resource_name):
            return CloudFormationResourcesSupportAtRuntime.AVAILABLE
        return CloudFormationResourcesSupportInLatest.NOT_SUPPORTED
