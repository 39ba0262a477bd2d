"""Access keys of the local system's own IAM users: each process calls the cloud as itself, as in AWS.

LocalStack lets everybody do everything but send; what each did is recorded, and compared with its policy.
"""

from pathlib import Path
from typing import Any

from twinmail import durable_file
from twinmail.access_key import AccessKeys, NewKey
from twinmail.local.state import State

KEYS = "access-keys"
CREDENTIALS = "credentials"


def ensure(state: State, iam: Any, user: str) -> Path:
    """The folder with an AWS credentials file of *user*, whom the stack has made.

    It is the last run's, else one in place of all others.

    Raises:
        NoUser: there is no such user.
        KeyUnavailable, NotWritten: transient.
    """
    path = state.root / KEYS / user / CREDENTIALS
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = AccessKeys(iam, user)
    there = [one.id for one in keys.listed()]
    try:
        if NewKey.from_file(path.read_bytes()).id in there:
            return path.parent
    except (OSError, ValueError):
        pass  # it was never written, or another system's
    for one in there:
        keys.delete(one)
    durable_file.write(path, keys.create().to_file(), mode=0o600)
    return path.parent
