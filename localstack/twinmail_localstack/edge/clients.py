"""AWS clients for the edge; where they point is decided by the AWS SDK's own standard variables."""

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

CONNECTIONS = 32

# SES gives a synchronously invoked function 30 seconds (Developer Guide, "Invoke Lambda function action").
_INVOCATION_TIMEOUT = 30.0


@dataclass(frozen=True)
class Clients:
    """One client a service; clients are safe to share between threads."""

    s3: Any
    sns: Any
    ses: Any
    lambda_: Any
    credentials: tuple[str, str]

    @classmethod
    def connect(cls, region: str) -> "Clients":
        """Make the clients; nothing is sent yet."""
        session = boto3.Session(region_name=region)
        config = Config(
            connect_timeout=5,
            read_timeout=_INVOCATION_TIMEOUT,
            max_pool_connections=CONNECTIONS,
            # Actions are retried by the edge, which knows the order they must keep.
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        )
        found = session.get_credentials()
        return cls(
            s3=session.client("s3", config=config),
            sns=session.client("sns", config=config),
            ses=session.client("ses", config=config),
            lambda_=session.client("lambda", config=config),
            credentials=(found.access_key, found.secret_key) if found else ("", ""),
        )
