"""The backup's containers, brought to a machine by SSH and up by real ``docker compose``, against LocalStack."""

import json
import os
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.compose_server import ENDED, Backup, run_backup
from tests.deploy.local_cloud import RELAY_PASSWORD
from tests.deploy.test_memory import message
from tests.e2e.mail import Accepted, Sender
from twinmail.local import accounts, webmail
from twinmail.local.state import LOOPBACK
from twinmail.runtime.emulation import host_platform

PROJECT = f"twinmail-test-{os.getpid()}"
SERVICES = {"dovecot", "syncer", "relay", "php", "web"}
SMALL, LARGE = 120, 8
"""Messages of 40 KB, and of 38 MB: more than the syncer may have memory for."""
SUBMITTED = (35_000_000, 10_000_000, 10_000_000)
"""Octets of messages that go out by the relay at once."""

TOML = f"""
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org"]

[mailboxes.ann]
addresses = ["ann@example.org"]

[servers.backup]
platform = "{host_platform()}"
host = "backup.example.org"
webmail = true
submission = true
"""


@pytest.fixture(scope="module")
def backup(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backup]:
    with run_backup(tool, tmp_path_factory.mktemp("backup"), TOML, PROJECT) as found:
        yield found


def test_all_are_up_and_the_file_is_clean(backup: Backup) -> None:
    states = {name: one["State"] for name, one in backup.containers().items()}
    assert set(states) == {*SERVICES, *ENDED}
    assert {states.pop(name)["ExitCode"] for name in ENDED} == {0}
    assert {one["Health"]["Status"] for one in states.values()} == {"healthy"}
    done = subprocess.run([backup.program, "config", "--quiet"], cwd=backup.folder, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_mail_flows_in_and_stays_over_down_and_up(backup: Backup) -> None:
    sender = Sender(LOOPBACK, backup.system.ports["edge"])
    message = b"From: a@elsewhere.example\r\nTo: ann@example.org\r\nSubject: %s\r\n\r\nHello\r\n"
    first = sender.send(message % b"one", ["ann@example.org"])
    with backup.client() as client:
        (uid,) = client.wait_for([first], "INBOX", 60)[first.ses_id]
        # What the log cannot bring back: mail that is only here, flags, and the numbers that clients remember.
        client.imap.append("Drafts", "\\Flagged", "", b"Subject: half written\r\n\r\nDear\r\n")
        numbers = client.imap.status("INBOX", "(UIDVALIDITY)")
    backup.compose("down", "--timeout", "20")
    second = sender.send(message % b"two", ["ann@example.org"])
    assert backup.deploy()[-1] == "start dovecot, syncer, relay, php, web"
    assert not backup.plan()
    with backup.client() as client:
        found = client.wait_for([first, second], "INBOX", 60)
        assert found[first.ses_id] == [uid]
        assert client.imap.status("INBOX", "(UIDVALIDITY)") == numbers
        client.imap.select("Drafts")
        assert client.imap.search(None, "FLAGGED", "SUBJECT", "written") == ("OK", [b"1"])


def test_limits_of_memory_hold_while_everything_is_used(backup: Backup) -> None:
    sender = Sender(LOOPBACK, backup.system.ports["edge"])
    password = accounts.passwords(backup.system.state)["ann"]

    def send(numbers: Sequence[int], octets: int) -> list[Accepted]:
        return sender.send_all((message(one, octets) for one in numbers), ["ann@example.org"])

    def read() -> None:
        """What a mail client does at each start."""
        for _ in range(4):
            with backup.client() as client:
                client.imap.select("INBOX")
                client.imap.uid("FETCH", "1:*", "(FLAGS ENVELOPE BODYSTRUCTURE)")
                client.imap.search(None, "BODY", "needle7")

    def browse(number: int) -> None:
        browser = backup.browser(f"127.0.3.{number}")
        for _ in range(4):
            browser.ajax("?_task=mail&_action=list&_mbox=INBOX")

    def submit(number: int, octets: int) -> None:
        with smtplib.SMTP_SSL("localhost", backup.ports.submission, context=backup.tls, timeout=120) as smtp:
            smtp.login("ann", password)
            data = message(2000 + number, octets).replace(b"sender@example.com", b"ann@example.org")
            smtp.sendmail("ann@example.org", ["ann@example.org"], data)

    # The first login makes the user of the webmail, and only one can.
    backup.browser("127.0.3.9")
    with ThreadPoolExecutor(16) as pool:
        large = [pool.submit(send, [1000 + one], 38_000_000) for one in range(LARGE)]
        small = [pool.submit(send, range(one, SMALL, 4), 40_000) for one in range(4)]
        others = [pool.submit(read) for _ in range(4)]
        others += [pool.submit(browse, one) for one in (1, 2)]
        others += [pool.submit(submit, one, octets) for one, octets in enumerate(SUBMITTED)]
        for one in others:
            one.result()
        sent = [accepted for one in (*large, *small) for accepted in one.result()]
    with backup.client() as client:
        client.wait_for(sent, timeout=180)
    backup.check_memory()


def test_who_takes_more_memory_than_allowed_is_ended(backup: Backup) -> None:
    # Swap may come to as much again (Compose file reference, mem_limit).
    greedy = "b'x' * (3 * 256 << 20)"
    run = ["run", "--rm", "--no-deps", "--entrypoint", "/usr/bin/python3", "syncer", "-c", greedy]
    done = subprocess.run([backup.program, *run], cwd=backup.folder, capture_output=True, check=False)
    assert done.returncode == 137, done.stderr


def test_rebuilt_from_nothing_it_has_all_mail_again_to_the_octet(backup: Backup) -> None:
    before = backup.mail()
    assert len(before) > SMALL + LARGE
    backup.compose("down", "--volumes", "--timeout", "20")
    shutil.rmtree(backup.folder)
    assert backup.deploy()[-2:] == (
        f"add {len(backup.request.files)} files",
        "start dovecot, syncer, relay, php, web",
    )
    deadline = time.monotonic() + 180
    while True:
        with backup.client() as client:
            if len(client.guids()) == len(before):
                break
        assert time.monotonic() < deadline, "mail is missing"
        time.sleep(0.5)
    assert backup.mail() == before
    # The largest messages came all at once this time.
    backup.check_memory()


def test_containers_are_narrow(backup: Backup) -> None:
    backup.check_narrow()


def test_nothing_secret_is_shown_by_the_engine(backup: Backup) -> None:
    text = json.dumps(backup.containers()) + backup.logs()
    assert RELAY_PASSWORD not in text
    assert backup.sender_password not in text
    assert not [
        variable
        for one in backup.containers().values()
        for variable in one["Config"]["Env"]
        if variable.partition("=")[0] in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    ]


def test_webmail_lets_its_user_in(backup: Backup) -> None:
    assert webmail.answers("localhost", backup.ports.web, backup.tls)
    backup.browser("127.0.3.9")


def test_dovecot_sees_the_address_of_each_client(backup: Backup) -> None:
    place = (LOOPBACK, backup.ports.imaps)
    with (
        socket.create_connection(place, 10, source_address=("127.0.0.9", 0)) as raw,
        backup.tls.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        assert connection.recv(64).startswith(b"* OK")
        connection.sendall(b"a LOGIN ann wrong\r\n")
        answer = b""
        while b"a NO" not in answer:
            answer += connection.recv(4096)
    deadline = time.monotonic() + 60
    # A wrong password is answered, and written down, after a delay.
    while "rip=127.0.0.9" not in (log := backup.compose("logs", "--no-color", "dovecot")):
        assert time.monotonic() < deadline, log
        time.sleep(0.2)
