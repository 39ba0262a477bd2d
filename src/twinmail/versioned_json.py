"""What the servers share is JSON with a version: read by whoever comes later, so read with care."""

import json
from typing import Any


def read(data: bytes, version: int) -> dict[str, Any]:
    """The members of the JSON object *data*, whose ``version`` is *version*.

    Raises:
        ValueError: not JSON, not an object, or of another version; the text says which.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(document, dict):
        raise ValueError(f"expected an object, got {type(document).__name__}")
    if document.get("version") != version:
        raise ValueError(f"expected version {version}, got {document.get('version')!r}; update")
    return document


def write(document: dict[str, Any]) -> bytes:
    """The object *document*: equal for equal contents, so that two servers write the same."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")
