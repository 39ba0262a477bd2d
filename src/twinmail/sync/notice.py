"""What a message of the queue says: which manifest entries and shared states are new; pure.

S3 writes event notifications (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html),
SNS delivers them raw or wrapped in an envelope of its own. Keys in them are URL-encoded as in a form.
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from twinmail.layout import MANIFEST, STATE


@dataclass(frozen=True)
class Notice:
    """What was announced.

    Attributes:
        keys: manifest keys.
        state: keys under ``state/``.
        junk: what in it was neither, for the log.
    """

    keys: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    junk: tuple[str, ...] = ()


def read(body: str, bucket: str) -> Notice:
    """Read the *body* of a queue message about *bucket*; whatever it holds, this raises nothing."""
    document = _json(body)
    if isinstance(document, dict) and isinstance(document.get("Message"), str) and "Type" in document:
        document = _json(document["Message"])
    if not isinstance(document, dict):
        return Notice(junk=("not a JSON object",))
    if document.get("Event") == "s3:TestEvent":
        # S3 sends one when a notification is configured.
        return Notice()
    records = document.get("Records")
    if not isinstance(records, list):
        return Notice(junk=("no event of S3",))
    keys: list[str] = []
    state: list[str] = []
    junk: list[str] = []
    for record in records:
        key = _key(record, bucket)
        if key.startswith(MANIFEST):
            keys.append(key)
        elif key.startswith(STATE):
            state.append(key)
        else:
            junk.append(key)
    return Notice(tuple(dict.fromkeys(keys)), tuple(dict.fromkeys(state)), tuple(junk))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _key(record: Any, bucket: str) -> str:
    """The key in *record*, or why there is none."""
    try:
        event, told = record["eventName"], record["s3"]
        name, key = told["bucket"]["name"], told["object"]["key"]
    except (TypeError, KeyError, IndexError):
        return "not an event of S3"
    if not isinstance(event, str) or not event.removeprefix("s3:").startswith("ObjectCreated:"):
        return f"event {event!r}"
    if name != bucket:
        return f"event of bucket {name!r}"
    return unquote_plus(key) if isinstance(key, str) else f"key {key!r}"
