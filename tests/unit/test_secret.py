"""Where passwords come from."""

import getpass
import io
import re
import sys
from pathlib import Path

import pytest

from twinmail.errors import PermanentError
from twinmail.tasks import secret


def typed(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Somebody at a terminal types *answers*."""
    waiting = list(answers)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: waiting.pop(0))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_made_here_unless_said_otherwise() -> None:
    found = secret.obtain(prompt=False, stdin=False)
    assert found.generated
    assert re.fullmatch(r"([a-z0-9]{5}-){3}[a-z0-9]{5}", found.text)
    assert found.text not in repr(found)


def test_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "my long password", "my long password")
    assert secret.obtain(prompt=True, stdin=False) == secret.Secret("my long password", generated=False)


def test_two_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "my long password", "my long passwort")
    with pytest.raises(PermanentError, match="the two passwords differ; nothing has changed"):
        secret.obtain(prompt=True, stdin=False)


@pytest.mark.parametrize("line", ["from a script!\n", "from a script!", "from a script!\r\n"])
def test_one_line_of_standard_input(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(line + "more\n" if line.endswith("\n") else line))
    assert secret.obtain(prompt=False, stdin=True).text == "from a script!"


@pytest.mark.parametrize(("line", "problem"), [("", "got 0"), ("short\n", "got 5"), ("a" * 11, "got 11")])
def test_too_short(monkeypatch: pytest.MonkeyPatch, line: str, problem: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))
    with pytest.raises(PermanentError, match=f"expected at least 12 characters, {problem}"):
        secret.obtain(prompt=False, stdin=True)


@pytest.mark.parametrize("text", ["a long pässword", "a long\tpassword", "a long password\x7f"])
def test_signs_that_not_every_client_sends(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with pytest.raises(PermanentError, match="signs of ASCII"):
        secret.obtain(prompt=False, stdin=True)


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(PermanentError, match="there is no terminal to ask at; use --stdin"):
        secret.obtain(prompt=True, stdin=False)


# They say where the password is: an open file, the name of a secret in the store.
POINTERS = {("import", "password_fd"), ("import", "secret")}


def test_no_option_takes_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody on a machine can read the command lines of all its processes."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from tasks import namespace

    options = {
        (context.name, option.name)
        for context in namespace.to_contexts()
        for option in context.args.values()
        if option.kind is not bool
    }
    assert ("user.passwd", "user") in options
    for task, option in options - POINTERS:
        assert not re.search("pass|secret|token|credential", option), f"./inv {task} --{option}"
