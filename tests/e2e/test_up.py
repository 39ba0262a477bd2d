"""``./inv up`` and ``./inv send`` as their user runs them."""

import imaplib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import configuration
from tests.image.webmail_client import WebmailClient
from twinmail.local import pki
from twinmail.local.state import State, running
from twinmail.runtime.select import choose
from twinmail.tasks.config import PROJECT

INV = [sys.executable, str(PROJECT / "tasks.py")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a space in its name, with the tests' configuration."""
    folder = tmp_path / "my mail"
    folder.mkdir()
    (folder / "twinmail.toml").write_text(configuration())
    return folder


def up(folder: Path, runtime: str, *options: str) -> list[str]:
    where = ["--config", str(folder / "twinmail.toml"), "--state", str(folder / "state")]
    return [*INV, "up", "--runtime", runtime, *where, *options]


def once(folder: Path, runtime: str, *options: str) -> dict[str, Any]:
    result = subprocess.run(
        up(folder, runtime, "--once", "--json", *options),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


class Foreground:
    """``./inv up`` in another process, until it is interrupted."""

    def __init__(self, folder: Path, runtime: str) -> None:
        self.folder = folder
        self.log = (folder / "up.log").open("w+")
        self.process = subprocess.Popen(up(folder, runtime), stdout=self.log, stderr=subprocess.STDOUT)

    def wait_for(self, text: str, timeout: float = 240) -> str:
        deadline = time.monotonic() + timeout
        while text not in (seen := (self.folder / "up.log").read_text()):
            assert self.process.poll() is None, seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.1)
        return seen

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture
def foreground(folder: Path, runtime_name: str) -> Iterator[Foreground]:
    started = Foreground(folder, runtime_name)
    yield started
    if started.process.poll() is None:
        started.process.send_signal(signal.SIGTERM)
        started.process.wait(60)
    started.log.close()
    # Whenever it was interrupted: nothing is left.
    state = State.of_checkout(PROJECT, folder / "state")
    assert not choose(runtime_name, state.root, state.layers).remove_leftovers()


def test_once_says_in_json_when_each_server_had_the_message(folder: Path, runtime_name: str) -> None:
    found = once(folder, runtime_name)
    assert set(found) == {"delivered", "runtime", "platform", "cold_seconds", "webmail"}
    assert set(found["delivered"]) == {"primary", "backup"}
    assert all(isinstance(one, int) and one > 0 for one in found["delivered"].values())
    assert found["runtime"] == runtime_name and found["platform"].startswith("linux/")
    # Nothing is left but the state folder.
    state = State.of_checkout(PROJECT, folder / "state")
    assert not choose(runtime_name, state.root, state.layers).remove_leftovers()
    assert folder.parent.name not in Path("/proc/self/mounts").read_text()
    assert {one.name for one in folder.iterdir()} == {"twinmail.toml", "state", "state.lock"}


def test_second_run_keeps_the_mail_and_fresh_forgets_it(folder: Path, runtime_name: str) -> None:
    def messages() -> list[str]:
        files = (folder / "state" / "primary" / "mail").rglob("*.twinmail,*")
        return sorted(path.name.partition(":")[0] for path in files if path.parent.name in ("new", "cur"))

    once(folder, runtime_name)
    (first,) = messages()
    once(folder, runtime_name)
    assert len(messages()) == 2 and first in messages()
    once(folder, runtime_name, "--fresh")
    assert len(messages()) == 1 and first not in messages()


def test_it_stays_up_takes_mail_and_ends_with_ctrl_c(foreground: Foreground, runtime_name: str) -> None:
    text = foreground.wait_for("Ctrl-C stops it")
    for wanted in ("primary", "backup", "password", "ca.pem", "openssl s_client", "./inv send"):
        assert wanted in text
    folder = foreground.folder
    state = State.of_checkout(PROJECT, folder / "state")
    (folder / "hello.eml").write_bytes(
        b"From: a@example.com\nTo: bob@example.org\nSubject: by hand\n\nHello\n"
    )
    send = [*INV, "send", "--state", str(folder / "state"), "--config", str(folder / "twinmail.toml")]
    # What it prints is enough to log in to the webmail.
    printed = dict(re.findall(r"^  (user|password|CA file|webmail \(backup\)) +(\S.*)$", text, re.M))
    browser = WebmailClient(
        int(printed["webmail (backup)"].split(":")[2].strip("/")), Path(printed["CA file"])
    )
    assert "task-mail" in browser.log_in(printed["user"], printed["password"]).text
    result = subprocess.run(
        [*send, "hello.eml", str(PROJECT / "tests" / "messages" / "plain.eml"), "--to", "bob@example.org"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 of 2 messages accepted" in result.stdout
    description = running(state)
    password = json.loads((state.root / "credentials.json").read_text())["bob"]["password"]
    tls = pki.client_context(Path(description.ca))
    for address in description.servers.values():
        deadline = time.monotonic() + 60
        with imaplib.IMAP4_SSL(str(address["host"]), int(address["port"]), ssl_context=tls) as client:
            client.login("bob", password)
            while int(client.select("INBOX", readonly=True)[1][0] or 0) < 2:
                assert time.monotonic() < deadline, "not there"
                time.sleep(0.1)
    refused = subprocess.run(
        [*send, "hello.eml", "--to", "nobody@example.org"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1 and "550" in refused.stdout
    second = subprocess.run(
        up(folder, runtime_name, "--once"), capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 1 and "a system already runs here" in second.stderr
    assert foreground.interrupt() == 0
    assert not choose(runtime_name, state.root, state.layers).remove_leftovers()


def test_sigterm_ends_it_also_where_a_shell_made_it_ignore_ctrl_c(folder: Path, runtime_name: str) -> None:
    argv = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *up(folder, runtime_name)]
    with (folder / "up.log").open("w+") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 240
            while "Ctrl-C stops it" not in (folder / "up.log").read_text():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert "stopped; the mail is kept" in (folder / "up.log").read_text()


def test_a_part_that_dies_is_started_again(foreground: Foreground) -> None:
    foreground.wait_for("Ctrl-C stops it")
    state = State.of_checkout(PROJECT, foreground.folder / "state")
    ports = running(state).ports
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"twinmail.sync" in argv and str(ports["primary-health"]).encode() in argv:
            os.kill(int(entry.name), signal.SIGKILL)
            break
    else:
        pytest.fail("no syncer found")
    foreground.wait_for("primary-syncer ended with exit code 137; starting it again")


def test_failure_is_exit_code_1_with_the_reason(folder: Path, runtime_name: str) -> None:
    result = subprocess.run(
        up(folder, runtime_name, "--once", "--endpoint", "ftp://nowhere"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "expected http://HOST:PORT, got 'ftp://nowhere'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_localstack_that_already_runs_is_used(folder: Path, runtime_name: str, tmp_path: Path) -> None:
    from tests.localstack_process import LocalStackProcess

    state = State.of_checkout(PROJECT)
    runtime = choose(runtime_name, tmp_path / "theirs", state.layers)
    localstack = LocalStackProcess(runtime, tmp_path, "theirs")
    try:
        localstack.start()
        found = once(folder, runtime_name, "--endpoint", localstack.endpoint)
        assert set(found["delivered"]) == {"primary", "backup"}
        buckets = [one["Name"] for one in localstack.client("s3").list_buckets()["Buckets"]]
        assert "example-mail" in buckets
    finally:
        localstack.stop()
