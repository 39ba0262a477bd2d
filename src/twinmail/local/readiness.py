"""Is a service of the local system ready? One question each, answered within seconds."""

import http.client
import json
import socket
from contextlib import suppress

from twinmail.local.state import LOOPBACK


def http_ok(address: str, path: str) -> bool:
    """Whether ``http://<address><path>`` answers with 200."""
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def knows_accounts(address: str) -> bool:
    """Whether the syncer at *address* has looked at the accounts, whatever it found."""
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/status")
        return bool(json.load(connection.getresponse())["chores"].get("accounts", {}).get("turns"))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def greets(port: int, prefix: bytes) -> bool:
    """Whether what listens on loopback *port* speaks first, and begins with *prefix*."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=2) as connection:
        return connection.recv(256).startswith(prefix)
    return False
