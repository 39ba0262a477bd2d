"""Who calls: the IAM user of an access key, with its policies and the secret that IAM keeps to itself.

LocalStack does not enforce IAM. SES's limits on senders are worth more than that, so they are evaluated here.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from moto.iam.models import iam_backends


@dataclass(frozen=True)
class Caller:
    """An IAM user.

    Attributes:
        policies: documents of everything attached to it and its groups.
    """

    account: str
    name: str
    arn: str
    secret: str = field(repr=False)
    policies: tuple[dict[str, Any], ...] = field(repr=False)


def caller_of(access_key: str) -> Caller | None:
    """The user with the active *access_key*; None for all others (the account's root, a role, nobody)."""
    for account, partitions in list(iam_backends.items()):
        for backend in list(partitions.values()):
            key = backend.access_keys.get(access_key)
            if key is None or key.status != "Active" or key.user_name not in backend.users:
                continue
            user = backend.users[key.user_name]
            return Caller(account, user.name, user.arn, key.secret_access_key, _policies(backend, user))
    return None


def _policies(backend: Any, user: Any) -> tuple[dict[str, Any], ...]:
    texts: list[str] = []
    for owner in (user, *backend.get_groups_for_user(user.name)):
        texts += owner.policies.values()
        for policy in owner.managed_policies.values():
            texts += [one.document for one in policy.versions if one.is_default]
    return tuple(json.loads(one) for one in texts)
