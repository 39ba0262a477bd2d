"""The very first run, with a configuration that has no mailbox yet."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.conftest import configuration
from twinmail.config import Config
from twinmail.local import accounts
from twinmail.local.state import State
from twinmail.runtime.select import choose
from twinmail.tasks.config import PROJECT


def without_mailboxes(folder: Path) -> Path:
    text = re.sub(r"\[mailboxes\..*?\n(?=\[servers)", "", configuration(), flags=re.DOTALL)
    path = folder / "twinmail.toml"
    path.write_text(text)
    return path


def command(config: Path, runtime: str) -> list[str]:
    where = ["--config", str(config), "--state", str(config.parent / "state"), "--runtime", runtime]
    return [sys.executable, str(PROJECT / "tasks.py"), "up", "--once", *where]


def test_nobody_to_ask_is_one_line_with_the_remedy(tmp_path: Path, runtime_name: str) -> None:
    config = without_mailboxes(tmp_path)
    done = subprocess.run(
        command(config, runtime_name),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "twinmail.toml has no mailbox yet; run ./inv up at a terminal, which asks for the first, "
        'or write: [mailboxes.NAME] addresses = ["NAME@example.org"]'
    )


def test_at_a_terminal_the_first_account_is_asked_for(tmp_path: Path, runtime_name: str) -> None:
    config = without_mailboxes(tmp_path)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(config, runtime_name), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    terminal = Terminal(ours)
    try:
        for question, answer in (
            ("Login name: ", "../x"),
            ("Once more", ""),
            ("Login name: ", "zoe"),
            ("Address [zoe@example.org]: ", ""),
            ("Full name [-]: ", "Zoë Z."),
            ("[no]: ", "yes"),
            ("Password: ", "my own password"),
            ("Again: ", "my own password"),
        ):
            terminal.wait_for(question)
            if question != "Once more":
                terminal.type(answer)
        terminal.wait_for("twinmail is up", 240)
        assert process.wait(120) == 0
    finally:
        process.terminate()
        process.wait(60)
        os.close(ours)
    assert "my own password" not in terminal.seen.partition("twinmail is up")[0], "it was echoed"
    mailbox = Config.load(config).mailboxes["zoe"]
    assert (mailbox.addresses, mailbox.full_name) == (("zoe@example.org",), "Zoë Z.")
    state = State.of_checkout(PROJECT, tmp_path / "state")
    # The first message arrived at both servers, so both let this password in.
    assert accounts.passwords(state) == {"zoe": "my own password"}
    assert not choose(runtime_name, state.root, state.layers).remove_leftovers()


class Terminal:
    """What a person sees and types."""

    def __init__(self, descriptor: int) -> None:
        self.seen = ""
        self._descriptor = descriptor
        self._read = 0

    def wait_for(self, text: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen[self._read :]:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self._descriptor], [], [], left)[0]:
                try:
                    self.seen += os.read(self._descriptor, 65536).decode("utf-8", "replace")
                except OSError:  # the other side is closed
                    assert text in self.seen[self._read :], f"no {text!r} in {self.seen!r}"
        self._read = self.seen.index(text, self._read) + len(text)

    def type(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())
