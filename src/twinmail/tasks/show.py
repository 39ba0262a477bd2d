"""``./inv show``: where one message is, and everything that happened to it."""

import json
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.search import printable
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.lookup.trail import Trail


@command(
    help={
        **PLACE_HELP,
        "ses-id": "the id that SES gave the message: of ./inv search, or of the sender's log",
        "raw": "print the message as SES received it, and nothing else",
    }
)
def show(
    context: Any,
    ses_id: str,
    raw: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Show where a message is, and what happened to it and when. Exit code 1 if nobody knows it."""
    from botocore.config import Config as Calls
    from botocore.exceptions import BotoCoreError, ClientError

    from twinmail.config import Config
    from twinmail.layout import checked_ses_id
    from twinmail.lookup.trail import conclusion
    from twinmail.lookup.witnesses import Witnesses
    from twinmail.tasks import place
    from twinmail.tasks.status import server_pages

    if raw and json_:
        raise PermanentError("--raw and --json: a message is no JSON; give one of them")
    checked_ses_id(ses_id)
    loaded = Config.load(place.config_file(config, state))
    system = place.find(loaded, state, aws)
    calls = Calls(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
    witnesses = Witnesses(loaded, partial(system.session.client, config=calls), server_pages(loaded, system))
    if raw:
        try:
            for chunk in witnesses.raw(ses_id):
                sys.stdout.buffer.write(chunk)
        except (BotoCoreError, ClientError) as error:
            raise PermanentError(f"{system.name}, bucket {loaded.bucket}: {error}") from error
        sys.stdout.buffer.flush()
        return
    found = witnesses.trail(ses_id)
    if json_:
        print(json.dumps(_document(found), default=str))
    else:
        print("\n".join(map(printable, _lines(found))))
    if not found.known:
        raise PermanentError("" if json_ else conclusion(found))


def _document(trail: "Trail") -> dict[str, Any]:
    from twinmail.lookup.trail import conclusion

    document = asdict(trail)
    return {**document, "events": [asdict(one) for one in trail.story], "conclusion": conclusion(trail)}


def _lines(trail: "Trail") -> list[str]:
    from twinmail.lookup.trail import conclusion

    lines = []
    if trail.hit:
        lines += [
            f"{trail.hit.sender} → {trail.hit.recipients}",
            f"{trail.hit.subject or '(no subject)'}",
            "",
        ]
    for one in trail.story:
        at = f"{one.at:%Y-%m-%d %H:%M:%S.%f}"[:-3] if one.at else "time not known"
        lines.append(f"{at:<23}  {one.who:<9} {one.what}")
    lines += [f"! {one}" for one in trail.trouble]
    if trail.known:
        lines += ["", conclusion(trail)]
    return lines
