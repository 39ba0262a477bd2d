"""Where the accounts are kept: one object in S3, changed only from the version that was read.

The operator's tasks write it, from any machine, and no writer takes another one's change back. S3 keeps the
older versions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.accounts import KEY, Accounts
from twinmail.errors import TransientError

# Two operators at once are rare; a script that adds users in parallel is not.
ATTEMPTS = 50


class AccountsUnavailable(TransientError):
    """S3 did not answer, or refused."""


class AccountsChanged(TransientError):
    """Somebody else wrote first; read again."""


@dataclass(frozen=True)
class Version:
    """The accounts as they were read.

    Attributes:
        etag: what S3 tells versions apart by; None if there was no object.
    """

    accounts: Accounts
    etag: str | None


class AccountStore(Protocol):
    """The place of the document."""

    def read(self) -> Version:
        """The accounts now; none if there is no document yet.

        Raises:
            AccountsError: the document is damaged, or of a newer version.
            AccountsUnavailable.
        """

    def write(self, accounts: Accounts, etag: str | None) -> None:
        """Put *accounts* in the place of the version *etag* (None: of no document).

        Raises:
            AccountsChanged: it is another version; nothing was written.
            AccountsUnavailable: whether it was written is not known.
        """


class S3AccountStore:
    """The document in *bucket*, by boto3's client *s3*."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def read(self) -> Version:
        """See `AccountStore`."""
        try:
            found = self._s3.get_object(Bucket=self._bucket, Key=KEY)
            data = found["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return Version(Accounts(), None)
            raise self._unavailable(error) from error
        except (BotoCoreError, OSError) as error:
            raise self._unavailable(error) from error
        return Version(Accounts.from_bytes(data), found["ETag"])

    def write(self, accounts: Accounts, etag: str | None) -> None:
        """See `AccountStore`."""
        expected = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=KEY,
                Body=accounts.to_bytes(),
                ContentType="application/json",
                **expected,
            )
        except ClientError as error:
            # 409: another conditional write at the same moment; 404: removed since it was read.
            if error.response["Error"]["Code"] in (
                "PreconditionFailed",
                "ConditionalRequestConflict",
                "NoSuchKey",
            ):
                raise AccountsChanged(f"s3://{self._bucket}/{KEY}: somebody else wrote first") from error
            raise self._unavailable(error) from error
        except (BotoCoreError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> AccountsUnavailable:
        return AccountsUnavailable(f"s3://{self._bucket}/{KEY}: {error}; nothing is known to have changed")


def update(store: AccountStore, change: Callable[[Accounts], Accounts]) -> Accounts:
    """Apply *change* to the newest accounts, again after every other writer, and return what came of it.

    Raises:
        AccountsError: *change* cannot be made, or the document is damaged.
        AccountsChanged: others wrote first every time.
        AccountsUnavailable: whether it was written is not known.
    """
    for attempt in range(1, ATTEMPTS + 1):
        version = store.read()
        changed = change(version.accounts)
        if version.etag is not None and changed.to_bytes() == version.accounts.to_bytes():
            break
        try:
            store.write(changed, version.etag)
        except AccountsChanged:
            if attempt == ATTEMPTS:
                raise
        else:
            break
    return changed
