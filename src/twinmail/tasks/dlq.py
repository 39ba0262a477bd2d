"""``./inv dlq``: what the function gave up, and what it could not process as always; and another try."""

import json
import sys
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.search import printable
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.dead_letters.letter import Letter
    from twinmail.index import Parked


@command(
    help={**PLACE_HELP, "retry": "try each again; what works is taken out of the queue, the rest stays"},
    auto_shortflags=False,
)
def dlq(
    context: Any,
    retry: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Show what the function gave up, and what it parked. With --retry, exit code 1 if something fails."""
    from botocore.config import Config as Calls
    from botocore.exceptions import BotoCoreError, ClientError

    from twinmail.config import Config
    from twinmail.dead_letters.queue import DeadLetters
    from twinmail.index import Index
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    system = place.find(loaded, state, aws)
    # The function has two minutes, and one call must not become two.
    patient = Calls(connect_timeout=5, read_timeout=150, retries={"total_max_attempts": 1})
    calls = Calls(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 2})
    queue = DeadLetters(
        loaded, system.session.client("sqs", config=calls), system.session.client("lambda", config=patient)
    )
    letters: list[dict[str, Any]] = []
    failed = 0
    try:
        with queue.held() as held:
            for one in held:
                document = _document(one.letter)
                if retry:
                    error = queue.retry(one.letter)
                    if not error:
                        queue.remove(one)
                    failed += bool(error)
                    document["retried"] = error or "done"
                letters.append(document)
                if not json_:
                    print("\n".join(map(printable, _lines(document))), flush=True)
        parked = [
            _parked(one)
            for one in Index(system.session.client("dynamodb", config=calls), loaded.table).parked()
        ]
    except (BotoCoreError, ClientError) as error:
        raise PermanentError(f"{system.name}, queue {loaded.dead_letter_queue}: {error}") from error
    if json_:
        print(json.dumps({"letters": letters, "parked": parked}))
    else:
        print("\n".join(map(printable, _end(letters, parked, retry, failed))))
    if failed:
        raise PermanentError(
            "" if json_ else f"{failed} of {len(letters)} failed again, and stay in the queue"
        )
    sys.stdout.flush()


def _document(letter: "Letter") -> dict[str, Any]:
    return {
        "id": letter.identity,
        "kind": letter.kind.value,
        "ses_ids": list(letter.ses_ids),
        "error": letter.error,
        "attempts": letter.attempts,
        "at": letter.at.isoformat(timespec="milliseconds") if letter.at else None,
        "event": letter.event,
    }


def _parked(one: "Parked") -> dict[str, Any]:
    arrived = one.arrived.isoformat(timespec="milliseconds")
    return {"ses_id": one.ses_id, "arrived": arrived, "reason": one.reason}


def _lines(document: dict[str, Any]) -> list[str]:
    at = document["at"][:19].replace("T", " ") if document["at"] else "time not known"
    whose = ", ".join(document["ses_ids"]) or document["id"]
    tried = f", tried {document['attempts']} times" if document["attempts"] else ""
    lines = [f"{at:<19}  {whose}", f"  {document['kind']}{tried}: {document['error']}"]
    if "retried" in document:
        said = document["retried"]
        lines.append("  tried again: done" if said == "done" else f"  tried again: {said}")
    return lines


def _end(letters: list[Any], parked: list[dict[str, Any]], retry: bool, failed: int) -> list[str]:
    lines = []
    if not letters:
        lines.append("nothing is in the dead-letter queue")
    elif not retry:
        lines.append(f"{len(letters)} in the dead-letter queue; try again with: ./inv dlq --retry")
    elif not failed:
        lines.append(f"{len(letters)} tried again; the dead-letter queue is empty")
    if parked:
        lines += ["", f"{len(parked)} parked: delivered as they are, because something of them failed"]
        for one in parked:
            lines += [f"{one['arrived'][:19].replace('T', ' ')}  {one['ses_id']}", f"  {one['reason']}"]
    return lines
