"""The AWS account of a local system: LocalStack, behind the clients that production code is handed."""

from typing import Any

from twinmail.local import services


def session(endpoint: str, region: str) -> Any:
    """A session whose clients talk to the LocalStack at the URL *endpoint*."""
    from localstack_client.session import Session

    return Session(
        aws_access_key_id=services.ACCESS_KEY,
        aws_secret_access_key=services.SECRET_KEY,
        region_name=region,
        localstack_host=endpoint.removeprefix("http://").rstrip("/"),
    )
