"""``./inv send``: put message files into the running system through its front door."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT


@command(
    help={
        "file": "a message (.eml), a folder of messages, or an mbox; as words: ./inv send FILE...",
        "to": "envelope recipient, or several with commas (default: our own addresses in To, Cc and Bcc)",
        "from": "envelope sender, '' for the null sender (default: the address in From)",
        "config": "another configuration than twinmail.toml, to know which addresses are ours",
        "state": "state folder of the running system, as given to ./inv up",
        "json": "print one JSON object",
    },
    iterable=["file"],
)
def send(
    context: Any,
    file: list[str],
    to: str = "",
    from_: str | None = None,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Send message files by SMTP to the running system: ./inv send FILE... [--to ADDR] [--from ADDR]."""
    from twinmail.config import FILE, Config
    from twinmail.local.state import State, running
    from twinmail.send import Mailer, Result, read, send_all

    if not file:
        raise PermanentError("nothing to send; name files, folders or mboxes: ./inv send FILE...")
    loaded = Config.load(Path(config) if config else PROJECT / FILE)
    edge = running(State.of_checkout(PROJECT, Path(state).absolute() if state else None)).edge
    recipients = [one.strip() for one in to.split(",") if one.strip()]
    results: list[Result] = []
    with Mailer(str(edge["host"]), int(edge["port"])) as mailer:
        for result in send_all(mailer, read(map(Path, file)), loaded, from_, recipients):
            results.append(result)
            if not json_:
                _print(result, len(results))
    failed = [one for one in results if not one.ok]
    if json_:
        messages = [{**asdict(one), "ok": one.ok} for one in results]
        print(json.dumps({"sent": len(results) - len(failed), "refused": len(failed), "messages": messages}))
    elif len(results) > 1:
        print(f"{len(results) - len(failed)} of {len(results)} messages accepted")
    if failed:
        raise PermanentError(f"{len(failed)} of {len(results)} messages were not accepted for all recipients")


def _print(result: Any, number: int) -> None:
    mark = "✓" if result.ok else "✗"
    recipients = ", ".join(result.envelope.rcpt_to) if result.envelope else "nobody"
    answer = f"{result.code} {result.answer}" if result.code else result.answer
    print(f"{mark} {number:>4}  {result.source} → {recipients}: {answer}", flush=True)
    for recipient, said in result.refused.items():
        print(f"         {recipient}: {said}", flush=True)
