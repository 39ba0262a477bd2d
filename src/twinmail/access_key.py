"""The access keys of an IAM user: what IAM is asked about them, and what its refusals mean."""

import configparser
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

    def to_file(self) -> bytes:
        """An AWS credentials file, as the SDKs read it."""
        text = f"[default]\naws_access_key_id = {self.id}\naws_secret_access_key = {self.secret}\n"
        return text.encode("ascii")

    @classmethod
    def from_file(cls, data: bytes) -> "NewKey":
        """The key in an AWS credentials file.

        Raises:
            ValueError: there is none in it, or one of a session, which ends within hours.
        """
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(data.decode("ascii"))
            found = parser["default"]
            key = cls(found["aws_access_key_id"].strip(), found["aws_secret_access_key"].strip())
        except (configparser.Error, KeyError) as error:
            raise ValueError("expected a default profile with a key") from error
        if not key.id or not key.secret or "aws_session_token" in found:
            raise ValueError("expected the key of a user")
        return key


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
