"""The access keys of an IAM user: what IAM is asked about them, and what its refusals mean."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.errors import PermanentError, TransientError

LIMIT = 2
"""Access keys that IAM allows a user (IAM User Guide, "IAM and AWS STS quotas")."""


class NoUser(PermanentError):
    """There is no such IAM user."""


class KeyUnavailable(TransientError):
    """IAM did not answer, or refused."""


@dataclass(frozen=True)
class Key:
    """An access key as IAM lists it, without its secret."""

    id: str
    active: bool
    created: datetime


@dataclass(frozen=True)
class NewKey:
    """An access key when it is made; nobody can show its secret a second time."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class AccessKeys:
    """The keys of *user*; each call raises `KeyUnavailable` if IAM does not answer, or refuses."""

    iam: Any
    user: str

    def listed(self) -> tuple[Key, ...]:
        """All of them, the oldest first.

        Raises:
            NoUser: there is no such user.
        """
        try:
            found = self.iam.list_access_keys(UserName=self.user)["AccessKeyMetadata"]
        except self.iam.exceptions.NoSuchEntityException as error:
            raise NoUser(
                f"IAM user {self.user}: not there; deploy the stack first: ./inv deploy cloud "
                "(on this machine: ./inv up)"
            ) from error
        except (BotoCoreError, ClientError) as error:
            raise KeyUnavailable(f"IAM user {self.user}: {error}") from error
        keys = [Key(one["AccessKeyId"], one["Status"] == "Active", one["CreateDate"]) for one in found]
        return tuple(sorted(keys, key=lambda one: (one.created, one.id)))

    def create(self) -> NewKey:
        """Make one more."""
        try:
            made = self.iam.create_access_key(UserName=self.user)["AccessKey"]
        except (BotoCoreError, ClientError) as error:
            raise KeyUnavailable(f"IAM user {self.user}: no new access key: {error}") from error
        return NewKey(made["AccessKeyId"], made["SecretAccessKey"])

    def delete(self, key: str) -> None:
        """Remove *key*, if it is there."""
        try:
            self.iam.delete_access_key(UserName=self.user, AccessKeyId=key)
        except self.iam.exceptions.NoSuchEntityException:
            pass  # it is gone, which is what was wanted
        except (BotoCoreError, ClientError) as error:
            raise KeyUnavailable(f"IAM user {self.user}: access key {key} not removed: {error}") from error

    def last_used(self, key: str) -> datetime | None:
        """When *key* last signed a request, as far as IAM knows by now; None if it never did."""
        try:
            found = self.iam.get_access_key_last_used(AccessKeyId=key)["AccessKeyLastUsed"]
        except (BotoCoreError, ClientError) as error:
            raise KeyUnavailable(f"IAM user {self.user}: use of access key {key}: {error}") from error
        when: datetime | None = found.get("LastUsedDate")
        return when
