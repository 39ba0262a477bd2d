"""``./inv restore``: bring mail from the log back into a server's mailboxes, and watch it come."""

import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError, TransientError
from twinmail.period import FORMS, Period
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.server_page import Page

SECONDS = 1.0
"""From one look to the next."""
_LINE_SECONDS = 10.0
"""The same for lines in a log that is no terminal."""
_PATIENCE = 30


@command(
    help={
        **PLACE_HELP,
        "server": "whose mailboxes",
        "mailbox": "of this mailbox alone",
        "since": f"arrived from then on: {FORMS}",
        "until": "arrived before; a day is a whole one",
        "lost": "also what was delivered and is in no folder any more: lost by accident, or deleted",
    }
)
def restore(
    context: Any,
    server: str,
    mailbox: str = "",
    since: str = "",
    until: str = "",
    lost: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Restore a server's mailboxes from S3 alone. Ctrl-C stops watching, not the server."""
    from twinmail.config import Config
    from twinmail.sync.restore import Request
    from twinmail.tasks import place
    from twinmail.tasks.status import server_pages

    loaded = Config.load(place.config_file(config, state))
    if server not in loaded.servers:
        raise PermanentError(f"--server {server}: expected one of {', '.join(loaded.servers)}")
    if mailbox and mailbox not in loaded.mailboxes:
        raise PermanentError(f"--mailbox {mailbox}: expected one of {', '.join(loaded.mailboxes)}")
    request = Request(mailbox, Period.parse(since, until, datetime.now(UTC)), lost)
    system = place.find(loaded, state, aws)
    pages = server_pages(loaded, system)
    if server not in pages:
        raise PermanentError(f"{server}: twinmail.toml does not say where it runs (lightsail or kubernetes)")
    pages[server].read("/restore", request.to_bytes())
    told = _watch(pages[server], server)
    if json_:
        print(json.dumps({"server": server, **told}))
    elif not told["left"]:
        print(f"{server}: restored {told['restored']:,} entries of the log in {told['seconds']:,.0f} s")
    if told["left"]:
        said = f"{told['left']} of {told['entries']} entries could not be restored; ./inv status says why"
        raise PermanentError("" if json_ else f"{server}: {said}")


def _watch(page: "Page", server: str) -> Mapping[str, Any]:
    """The progress at the end; a server that does not answer for a while may have been started again."""
    terminal, shown, failures = sys.stderr.isatty(), 0.0, 0
    while True:
        try:
            told = json.loads(page.read("/status"))["restore"]
            failures = 0
        except TransientError:
            failures += 1
            if failures > _PATIENCE:
                raise
            told = None
        if told and told["state"] == "done":
            if terminal:
                sys.stderr.write("\r\033[K")
            found: Mapping[str, Any] = told
            return found
        if told and (terminal or time.monotonic() - shown >= _LINE_SECONDS):
            shown = time.monotonic()
            text = f"{server}: {line(told)}"
            sys.stderr.write(f"\r\033[K{text[:110]}" if terminal else f"{text}\n")
            sys.stderr.flush()
        time.sleep(SECONDS)


def line(told: Mapping[str, Any]) -> str:
    """The progress *told* in words: how much, how fast, how long still."""
    looked, entries, seconds = told["looked"], told["entries"], told["seconds"]
    share = f"{looked:,} of {entries:,} entries, {told['restored']:,} restored"
    if told["trouble"]:
        return f"{share}; waits: {told['trouble']}"
    if not seconds or not looked:
        return share
    rate = looked / seconds
    left = timedelta(seconds=round((entries - looked) / rate))
    return f"{share}, {rate:,.0f} a second, {left} left"
