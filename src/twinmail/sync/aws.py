"""Access to AWS by the SDK's standard ways, at the price of its core alone.

botocore instead of boto3, and one session for everything, take 12 MB less: boto3 loads its resource and
transfer layers, and each session parses the endpoints of all services again.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
from botocore.config import Config as Settings

from twinmail.errors import PermanentError

# Below the 10 minutes that botocore guarantees session credentials to stay valid.
_CREDENTIALS = timedelta(minutes=5)


class NoCredentials(PermanentError):
    """The SDK's standard places hold no credentials."""


class Aws:
    """One account and *region*, as the environment of the process tells it to the SDK."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._session: Any = botocore.session.get_session()

    def client(self, service: str, settings: Settings) -> Any:
        """A client of *service*."""
        return self._session.create_client(service, region_name=self.region, config=settings)

    def credentials(self) -> "Credentials":
        """The credentials, kept fresh.

        Raises:
            NoCredentials: there are none.
        """
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentials(
                "no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or any other of the "
                "AWS SDK's standard ways"
            )
        return Credentials(found)


class Credentials:
    """What obstore asks for credentials: botocore refreshes those that expire."""

    # obstore takes options of the store from here; there are none.
    config: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, found: Any) -> None:
        self._found = found

    def __call__(self) -> Any:
        """The credentials of now, and when to ask again."""
        frozen = self._found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS,
        }
