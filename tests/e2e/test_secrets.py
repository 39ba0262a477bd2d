"""Secrets of the running system are replaced: what was open stays open, unless that is what it means."""

import http.client
import json
import re
import smtplib
import socket
import time
import uuid
from collections.abc import Callable
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Self

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import Client
from tests.image.webmail_client import WebmailClient
from tests.secret_search import Secrets, kept_in, values
from twinmail.access_key import AccessKeys
from twinmail.deploy import credentials, key_rotation
from twinmail.deploy.key_rotation import NotInUse
from twinmail.local import access_keys, relay, webmail
from twinmail.local.state import LOOPBACK
from twinmail.runtime.interface import UID
from twinmail.secret_store import SecretStore
from twinmail.tasks import secrets
from twinmail.tasks.place import Place
from twinmail.webmail import SENDER

SECONDS = 60.0
LISTING, ERROR = "?_task=mail&_action=list&_mbox=INBOX", ',"error",'


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
    assert ERROR not in browser.ajax(LISTING)["exec"]
    path = webmail.folder(running.state, "backup") / "data" / "des_key"
    old = path.read_text()
    with running.client("backup", "bob") as client:
        rotate(running, "des-key")
        assert client.imap.noop()[0] == "OK"
    assert path.read_text() != old
    found = path.stat()
    assert found.st_mode & 0o777 == 0o600 and (found.st_uid == UID or running.state.root.owner() != "root")
    # Its password cannot be read any more: who has it open reads an error, and logs in again (docs/secrets.md).
    assert ERROR in browser.ajax(LISTING)["exec"]
    again = WebmailClient(running.system.ports["backup-webmail"], running.system.ca, "127.0.1.10")
    assert "task-mail" in again.log_in("bob@example.org", running.passwords["bob"]).text
    assert ERROR not in again.ajax(LISTING)["exec"]


class Flow:
    """Mail that keeps coming to bob from elsewhere, until the end of the block."""

    def __init__(self, running: Running) -> None:
        self.sent = 0
        self.mark = f"flow {uuid.uuid4().hex}"
        self.running, self._end = running, Event()
        self._thread = Thread(target=self._keep_sending)

    def _keep_sending(self) -> None:
        while not self._end.is_set():
            head = f"From: ann@example.org\r\nTo: bob@example.org\r\nSubject: {self.mark} {self.sent:03}\r\n"
            self.send(f"{head}\r\nHello\r\n".encode())
            self.sent += 1
            self._end.wait(0.2)

    def send(self, message: bytes) -> None:
        """Return when *message* is accepted."""
        self.running.sender.send(message, ["bob@example.org"])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def more(self) -> None:
        """Wait until more has come in, by each server that sends, and is on both servers."""
        enough = self.sent + 1 + len(SERVERS)
        wait_for(lambda: self.sent >= enough)
        for server in SERVERS:
            wait_for(lambda server=server: len(self._arrived(server)) >= enough)  # type: ignore[misc]

    def assert_once(self) -> None:
        """Each message is there once, on both servers."""
        for server in SERVERS:
            wait_for(lambda server=server: len(self._arrived(server)) >= self.sent)  # type: ignore[misc]
            assert self._arrived(server) == [f"{self.mark} {one:03}" for one in range(self.sent)]

    def _arrived(self, server: str) -> list[str]:
        """Subjects, sorted."""
        with self.running.client(server, "bob") as client:
            if not (uids := found(client, self.mark)):
                return []
            _, parts = client.imap.uid(
                "FETCH", b",".join(uids).decode(), "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
            )
        return sorted(re.findall(rf"{self.mark} \d+", repr(parts)))


class Relayed(Flow):
    """Mail that ann keeps sending by the relays of both servers, again where it was put off."""

    put_off = 0

    def send(self, message: bytes) -> None:
        """As a mail program does that has it in its outbox."""
        port = self.running.system.ports[f"{SERVERS[self.sent % len(SERVERS)]}-submission"]
        deadline = time.monotonic() + SECONDS
        while (code := self._answer(port, message)) != 250:
            assert code < 500 and time.monotonic() < deadline, code
            self.put_off += 1
            self._end.wait(0.2)

    def _answer(self, port: int, message: bytes) -> int:
        try:
            with smtplib.SMTP_SSL(LOOPBACK, port, context=self.running.tls, timeout=30) as client:
                client.login("ann", self.running.passwords["ann"])
                client.sendmail("ann@example.org", ["bob@example.org"], message)
                return 250
        except smtplib.SMTPRecipientsRefused as error:
            return error.recipients["bob@example.org"][0]
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        except (OSError, smtplib.SMTPServerDisconnected):
            return 421


@pytest.mark.parametrize(("part", "kind"), [("syncer", Flow), ("relay", Relayed)])
def test_servers_get_new_keys_while_mail_flows(
    running: Running, tmp_path: Path, part: str, kind: type[Flow]
) -> None:
    iam, store, system = running.system.session().client("iam"), SecretStore(tmp_path), running.system
    owners = [one for one in key_rotation.owners(system.config, "syncer") if f"{part}/" in one.secret]
    assert len(owners) == len(SERVERS)

    def file(user: str) -> Path:
        return running.state.root / access_keys.KEYS / user / access_keys.CREDENTIALS

    with kind(running) as flow:
        for owner in owners:
            store.put(owner.secret, file(owner.user).read_bytes())
            assert key_rotation.begin(iam, store, owner)
        # Both keys are good; nobody has the new ones yet.
        flow.more()
        for owner, server in zip(owners, SERVERS, strict=True):
            with pytest.raises(NotInUse):
                key_rotation.finish(iam, store, owner)
            new = store.get(owner.secret)
            assert new is not None
            file(owner.user).write_bytes(new)
            system.restart(f"{server}-{part}")
        flow.more()
        for owner in owners:
            (old,) = key_rotation.finish(iam, store, owner)
            assert [one.id for one in AccessKeys(iam, owner.user).listed()] == [
                key_rotation.key_id(store.get(owner.secret))
            ]
            assert old not in file(owner.user).read_text()
        flow.more()
    flow.assert_once()


def test_dovecot_and_the_relay_get_a_new_password_while_people_send(running: Running) -> None:
    with Relayed(running) as flow:
        for server in SERVERS:
            secret = running.state.settings(server) / relay.SECRET
            old = secret.read_bytes()
            secret.unlink()
            running.system._prepare()
            assert secret.read_bytes() != old
            running.system.restart(f"{server}-relay")
            before = flow.put_off
            # Dovecot has the old one: nothing goes out, and nothing bounces.
            wait_for(lambda before=before: flow.put_off > before)  # type: ignore[misc]
            running.system.restart(f"{server}-dovecot")
        flow.more()
    flow.assert_once()


def test_the_webmail_sends_with_the_old_password_and_the_new_one_until_the_old_one_goes(
    running: Running, tmp_path: Path
) -> None:
    iam, store, system = running.system.session().client("iam"), SecretStore(tmp_path), running.system
    (owner,) = (one for one in credentials.every(system.config) if one.secret == "smtp/webmail")
    path = webmail.folder(running.state, "backup") / "php-etc" / "smtp.json"
    kept = json.loads(path.read_bytes())
    store.put(owner.secret, json.dumps({"user": kept["user"], "password": kept["password"]}).encode())

    def send(secret: bytes, subject: str) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "ann@example.org", "bob@example.org", subject
        message.set_content("Hello\n")
        login = json.loads(secret)
        with smtplib.SMTP_SSL("localhost", system.ports["submissions"], context=running.tls) as client:
            client.login(login["user"], login["password"])
            client.sendmail("ann@example.org", ["bob@example.org"], message.as_bytes())

    old = store.get(owner.secret)
    assert old is not None and key_rotation.begin(iam, store, owner)
    new = store.get(owner.secret)
    assert new is not None and new != old
    send(old, "by the old one")
    send(new, "by the new one")
    (gone,) = key_rotation.finish(iam, store, owner)
    assert gone == json.loads(old)["user"]
    with pytest.raises(smtplib.SMTPAuthenticationError):
        send(old, "by nobody")
    # The server gets it with its next deployment; PHP reads the file at each message.
    text = json.dumps({**kept, **json.loads(new)}).encode()
    for one in (path, running.state.root / SENDER):
        one.write_bytes(text)
    browser = WebmailClient(system.ports["backup-webmail"], system.ca, "127.0.1.12")
    assert "task-mail" in browser.log_in("ann", running.passwords["ann"]).text
    assert "Message sent successfully" in browser.send("ann@example.org", "bob@example.org", "by the webmail")
    for server in SERVERS:
        with running.client(server, "bob") as client:
            for subject in ("by the old one", "by the new one", "by the webmail"):
                wait_for(partial(arrived, client, subject))
            assert not found(client, "by nobody")


def arrived(client: Client, subject: str) -> bool:
    return len(found(client, subject)) == 1


def found(client: Client, subject: str) -> list[bytes]:
    """UIDs of the messages with *subject*."""
    client.imap.select("INBOX", readonly=True)
    uids: list[bytes] = client.imap.uid("SEARCH", "SUBJECT", f'"{subject}"')[1][0].split()
    return uids


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
