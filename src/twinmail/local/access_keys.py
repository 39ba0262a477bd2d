"""Access keys of the local system's own IAM users: each process calls the cloud as itself, as in AWS.

LocalStack lets everybody do everything but send; what each did is recorded, and compared with its policy.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from twinmail import durable_file
from twinmail.local.state import State

KEYS = "access-keys"


@dataclass(frozen=True)
class AccessKey:
    """A key; printing it shows no secret."""

    id: str
    secret: str = field(repr=False)


def ensure(state: State, iam: Any, user: str) -> AccessKey:
    """The key of *user*, whom the stack has made: the last run's, else one in place of all others.

    Raises:
        botocore.exceptions.ClientError: there is no such user.
        NotWritten: transient.
    """
    path = state.root / KEYS / f"{user}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    there = [one["AccessKeyId"] for one in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]]
    try:
        kept = json.loads(path.read_text("utf-8"))
        if kept["id"] in there:
            return AccessKey(kept["id"], kept["secret"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # it was never written, or another system's
    for one in there:
        iam.delete_access_key(UserName=user, AccessKeyId=one)
    made = iam.create_access_key(UserName=user)["AccessKey"]
    key = AccessKey(made["AccessKeyId"], made["SecretAccessKey"])
    durable_file.write(path, json.dumps({"id": key.id, "secret": key.secret}).encode("ascii"), mode=0o600)
    return key
