"""Secrets of the running system are replaced: what was open stays open, unless that is what it means."""

import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import SERVERS, Running
from tests.image.webmail_client import WebmailClient
from tests.secret_search import Secrets, kept_in, values
from twinmail.local import webmail
from twinmail.local.state import LOOPBACK
from twinmail.runtime.interface import UID
from twinmail.tasks import secrets
from twinmail.tasks.place import Place

SECONDS = 60.0


def served(running: Running, port: int) -> bytes:
    with (
        socket.create_connection((LOOPBACK, port), 10) as plain,
        running.tls.wrap_socket(plain, server_hostname="localhost") as inside,
    ):
        return inside.getpeercert(binary_form=True) or b""


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def certificate(running: Running, server: str) -> dict[str, object]:
    connection = http.client.HTTPConnection(LOOPBACK, running.system.ports[f"{server}-health"], timeout=10)
    connection.request("GET", "/status")
    found: dict[str, object] = json.loads(connection.getresponse().read())["certificate"]
    connection.close()
    return found


def rotate(running: Running, what: str) -> None:
    place = Place("here", running.system.session(), running.state)
    assert secrets._rotate_local(place, running.system.config, what)


def test_a_new_certificate_is_served_while_sessions_go_on(running: Running) -> None:
    ports = [running.system.ports[f"{name}-imaps"] for name in SERVERS]
    ports.append(running.system.ports["backup-webmail"])
    before = {port: served(running, port) for port in ports}
    with running.client("primary", "ann") as primary, running.client("backup", "ann") as backup:
        rotate(running, "tls")
        wait_for(lambda: all(served(running, port) != old for port, old in before.items()))
        assert primary.imap.noop()[0] == backup.imap.noop()[0] == "OK"
    for name in SERVERS:
        told = certificate(running, name)
        assert told["problem"] is None and told["placeholder"] is False
        assert isinstance(told["days_left"], float) and told["days_left"] > 300


def test_a_new_des_key_ends_sessions_of_the_webmail_only(running: Running) -> None:
    browser = WebmailClient(running.system.ports["backup-webmail"], running.system.ca, "127.0.1.9")
    assert "task-mail" in browser.log_in("bob@example.org", running.passwords["bob"]).text
    path = webmail.folder(running.state, "backup") / "data" / "des_key"
    old = path.read_text()
    with running.client("backup", "bob") as client:
        rotate(running, "des-key")
        assert client.imap.noop()[0] == "OK"
    assert path.read_text() != old
    found = path.stat()
    assert found.st_mode & 0o777 == 0o600 and (found.st_uid == UID or running.state.root.owner() != "root")
    again = WebmailClient(running.system.ports["backup-webmail"], running.system.ca, "127.0.1.10")
    assert "task-mail" in again.log_in("bob@example.org", running.passwords["bob"]).text


def secrets_of(running: Running) -> Secrets:
    """Everything that this system keeps secret."""
    root = running.state.root
    found = [one.encode() for one in running.passwords.values()]
    found += kept_in(root / "access-keys")
    for pattern in ("**/relay-secret", "**/smtp.json", "**/des_key", "**/key.pem", "tls/ca-key.pem"):
        files = list(root.glob(pattern))
        assert files, pattern
        found += [one for path in files for one in values(path.read_bytes())]
    return Secrets(found)


def function_logs(running: Running) -> bytes:
    logs = running.system.session().client("logs")
    groups = [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]]
    assert groups
    pages = (
        page
        for name in groups
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=name)
    )
    return "\n".join(event["message"] for page in pages for event in page["events"]).encode()


def test_no_log_and_no_environment_shows_a_secret(running: Running) -> None:
    known = secrets_of(running)
    # Somebody logs in by each way, and is refused by each.
    for password in (running.passwords["bob"], running.passwords["ann"]):
        WebmailClient(running.system.ports["backup-webmail"], running.system.ca, "127.0.1.11").log_in(
            "bob@example.org", password
        )
    told = {f"log of {name}": one.logs() for name, one in running.system.containers.items()}
    assert all(told.values()) and {"localstack", "edge", "backup-relay"} <= {one[7:] for one in told}
    told |= {
        str(path): path.read_bytes() for path in (running.state.root / "log").rglob("*") if path.is_file()
    }
    told["logs of functions"] = function_logs(running)
    for name, container in running.system.containers.items():
        # What `docker inspect` shows, where there is an engine.
        if (inner := getattr(container, "_container", None)) is not None:
            inner.reload()
            told[f"inspection of {name}"] = json.dumps(inner.attrs).encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            told[str(path)] = path.read_bytes() + path.with_name("cmdline").read_bytes()
        except OSError:
            continue  # it has ended, or is somebody else's
    found = {}
    for name, octets in told.items():
        hits = known.found(octets)
        # The keys that an operator's shell has are nobody's here.
        hits = [one for one in hits if one.startswith("secret ")] if name.startswith("/proc") else hits
        if hits:
            found[name] = hits
    assert found == {}
