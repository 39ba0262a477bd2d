"""Access keys of the local system's own IAM users: each process calls the cloud as itself, as in AWS.

LocalStack lets everybody do everything but send; what each did is recorded, and compared with its policy.
"""

import json
from typing import Any

from twinmail import durable_file
from twinmail.access_key import AccessKeys, NewKey
from twinmail.local.state import State

KEYS = "access-keys"


def ensure(state: State, iam: Any, user: str) -> NewKey:
    """The key of *user*, whom the stack has made: the last run's, else one in place of all others.

    Raises:
        NoUser: there is no such user.
        KeyUnavailable, NotWritten: transient.
    """
    path = state.root / KEYS / f"{user}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = AccessKeys(iam, user)
    there = [one.id for one in keys.listed()]
    try:
        kept = json.loads(path.read_text("utf-8"))
        if kept["id"] in there:
            return NewKey(kept["id"], kept["secret"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # it was never written, or another system's
    for one in there:
        keys.delete(one)
    made = keys.create()
    durable_file.write(path, json.dumps({"id": made.id, "secret": made.secret}).encode("ascii"), mode=0o600)
    return made
