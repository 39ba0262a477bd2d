"""``./inv leave``: what is billed because of this system, and its end."""

import json
import sys
from typing import Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP


@command(
    help={
        "delete": "delete all of it, mail included, for good: the name of the stack, as said without this",
        **PLACE_HELP,
    },
)
def leave(
    context: Any,
    delete: str = "",
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """List everything that AWS bills because of this system; delete it only with --delete STACK."""
    from twinmail.config import Config
    from twinmail.deploy import leaving
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    if delete and delete != loaded.stack:
        raise PermanentError(
            f"--delete {delete}: expected {loaded.stack}, the stack of {loaded.bucket}; nothing was deleted"
        )
    where = place.find(loaded, state, aws)
    # LocalStack has no Lightsail and no Route 53.
    found = leaving.plan(loaded, where.session, whole=where.state is None)
    if not json_:
        head = "to delete, in this order:" if found.steps else "nothing is there to delete"
        print(f"{where.name}, stack {loaded.stack}: {head}")
        print("".join(f"  {one.text}\n" for one in found.steps), end="")
        print("".join(f"not deleted: {one}\n" for one in found.remains), end="")
    if delete and found.steps:
        leaving.apply(where.session, found.steps, _say, pause=5.0 if where.state is None else 1.0)
    if json_:
        steps = [{"kind": one.kind, "name": one.name, "text": one.text} for one in found.steps]
        told = {"place": where.name, "steps": steps, "remains": found.remains, "deleted": bool(delete)}
        print(json.dumps(told))
    elif delete and found.steps:
        print("deleted; look again without --delete: nothing must be left")
    elif found.steps:
        print(f"Nothing was deleted. When all mail is where you want it: ./inv leave --delete {loaded.stack}")


def _say(event: str) -> None:
    print(f"  {event}", file=sys.stderr, flush=True)
