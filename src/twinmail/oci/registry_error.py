"""What goes wrong between us and a registry."""

import json

import urllib3

from twinmail.errors import PermanentError, TransientError

_TOLD_CHARACTERS = 300


class RegistryError(PermanentError):
    """The registry refused, or answered what no registry should."""


class RegistryUnavailable(TransientError):
    """The registry cannot be reached now; what it has taken stays there."""


def told(response: urllib3.BaseHTTPResponse) -> str:
    """What the registry says about an error (OCI distribution spec v1.1, "Error codes"), on one line."""
    try:
        errors = json.loads(response.data)["errors"]
        text = "; ".join(f"{one.get('code')}: {one.get('message')}" for one in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = response.data.decode(errors="replace") or response.reason or "nothing"
    return " ".join(text.split())[:_TOLD_CHARACTERS]
