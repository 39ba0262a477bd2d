"""What people do besides mail: edit filters, move messages; and what left for the Internet because of it."""

import email
import email.message
import email.policy
import json
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.e2e.conftest import SERVERS, Running
from tests.managesieve import ManageSieve, managesieve
from twinmail.local.state import LOOPBACK

DEADLINE = 90.0


def wait(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(0.1)


@contextmanager
def filters(running: Running, server: str, user: str) -> Iterator[ManageSieve]:
    """A ManageSieve session of *user* at *server*."""
    port = running.system.ports[f"{server}-sieve"]
    with managesieve(LOOPBACK, port, running.tls, user, running.passwords[user]) as client:
        yield client


def use_script(running: Running, server: str, user: str, script: str, name: str = "mine") -> None:
    """Put *script* on *server*, and wait until both servers use it."""
    with filters(running, server, user) as client:
        client.put(name, script)
        client.activate(name)
    marked = script.replace("\r\n", "\n").strip()
    for other in SERVERS:
        with filters(running, other, user) as client:
            wait(lambda one=client: _uses(one, name, marked), f"{name} of {user} on {other}")  # type: ignore[misc]


def _uses(client: ManageSieve, name: str, script: str) -> bool:
    return client.scripts().get(name, False) and script in client.get(name).replace("\r\n", "\n")


def stranger() -> str:
    """An address somewhere on the Internet, used once."""
    return f"friend-{uuid.uuid4().hex[:12]}@example.com"


def sent_to(running: Running, address: str) -> list[email.message.EmailMessage]:
    """What SES sent to *address* so far."""
    with urllib.request.urlopen(f"{running.system.endpoint}/_aws/ses", timeout=30) as answer:
        documents = json.load(answer)["messages"]
    found = []
    for one in documents:
        if address in json.dumps(one.get("Destination", one.get("Destinations", ""))) or (
            address in one.get("RawData", "").partition("\n\n")[0].partition("\r\n\r\n")[0]
        ):
            parsed = email.message_from_bytes(one["RawData"].encode(), policy=email.policy.default)
            assert isinstance(parsed, email.message.EmailMessage)
            found.append(parsed)
    return found
