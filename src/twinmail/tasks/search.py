"""``./inv search``: which messages there are, by what the index knows of them."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.period import FORMS, Period
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.lookup.hits import Hit

LIMIT = 100


@command(
    help={
        **PLACE_HELP,
        "from": "part of the sender's name or address",
        "to": "part of To or Cc",
        "subject": "part of the subject",
        "message-id": "the Message-ID, whole",
        "since": f"arrived from then on: {FORMS}",
        "until": "arrived before; a day is a whole one",
        "has-attachment": "only messages with an attached file",
        "mailbox": "of this mailbox alone; its name, also of one that is not configured any more",
        "limit": f"how many at most, the newest first (default: {LIMIT}; 0: all)",
        "json": "print one JSON object a line, each as soon as it is found",
    },
    # invoke would make -h of --has-attachment.
    auto_shortflags=False,
)
def search(
    context: Any,
    from_: str = "",
    to: str = "",
    subject: str = "",
    message_id: str = "",
    since: str = "",
    until: str = "",
    has_attachment: bool = False,
    mailbox: str = "",
    limit: int = LIMIT,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Find messages by sender, recipient, subject and time. Exit code 1 if there is none."""
    from botocore.exceptions import BotoCoreError, ClientError

    from twinmail.config import Config
    from twinmail.lookup import hits
    from twinmail.lookup.criteria import Criteria
    from twinmail.tasks import place

    if limit < 0:
        raise PermanentError(f"--limit {limit}: expected 0 or more")
    period = Period.parse(since, until, datetime.now(UTC))
    wanted = Criteria(from_, to, subject, message_id, has_attachment)
    loaded = Config.load(place.config_file(config, state))
    system = place.find(loaded, state, aws)
    found = hits.search(system.session.client("dynamodb"), loaded, mailbox, period, wanted)
    count = 0
    try:
        for one in islice(found, limit or None):
            count += 1
            print(_document(one) if json_ else _line(one), flush=True)
        more = bool(limit) and next(found, None) is not None
    except (BotoCoreError, ClientError) as error:
        raise PermanentError(f"{system.name}, table {loaded.table}: {error}") from error
    if not count:
        raise PermanentError(
            "" if json_ else "no message is like that; ./inv show SES-ID looks for one by its id"
        )
    if more:
        print(f"there are more than {limit}; narrow the search, or say --limit 0", file=sys.stderr)


def _document(hit: "Hit") -> str:
    return json.dumps({**asdict(hit), "arrived": hit.arrived.isoformat(timespec="milliseconds")})


def _line(hit: "Hit") -> str:
    where = (
        ", ".join(f"{name}/{folder}" for name, folder in hit.mailboxes.items()) or f"nobody ({hit.withheld})"
    )
    what = f"{hit.sender or '<>'} → {where}: {hit.subject or '(no subject)'}"
    marked = f"  [{len(hit.attachments)} attached]" if hit.attachments else ""
    return f"{hit.arrived:%Y-%m-%d %H:%M:%S}  {hit.ses_id}\n  {printable(what)}{marked}"


def printable(value: str) -> str:
    """*value* without what a terminal would obey: controls, and marks that turn the direction of a line."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in value)
