"""The command line: variadic words, help that reads like a product's, one line for an error."""

import subprocess
import sys
from pathlib import Path

import invoke
import pytest
from invoke import Collection

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.program import join, spread

PROJECT = Path(__file__).parents[2]


@invoke.task(iterable=["file"], optional=["log"])
def send(context, file, to="", json=False, log=None):  # type: ignore[no-untyped-def]
    """Send."""


@invoke.task
def up(context, once=False):  # type: ignore[no-untyped-def]
    """Up."""


@invoke.task(iterable=["mailbox"])
def add(context, address, mailbox, json=False):  # type: ignore[no-untyped-def]
    """Add."""


CONTEXTS = {one.name: one for one in Collection(send, up, alias=Collection(add)).to_contexts()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("send a.eml b.eml", "send --file a.eml --file b.eml"),
        ("send a.eml --to x@y b.eml", "send --file a.eml --to x@y --file b.eml"),
        ("send --to=x@y a", "send --to=x@y --file a"),
        ("send --json a", "send --json --file a"),
        ("send -- --odd.eml", "send --file --odd.eml"),
        ("send up", "send --file up"),
        ("send", "send"),
        ("up --once", "up --once"),
        ("up send x", "up send --file x"),
        ("nothing x", "nothing x"),
        ("alias.add a@b x y", "alias.add a@b --mailbox x --mailbox y"),
        ("alias.add --json a@b x --mailbox y", "alias.add --json a@b --mailbox x --mailbox y"),
    ],
)
def test_bare_words_become_the_list_option(words: str, expected: str) -> None:
    if words == "up send x":
        # A task without a list option ends the search: what follows is invoke's business.
        expected = words
    assert spread(words.split(), CONTEXTS) == expected.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("alias add a@b x", "alias.add a@b x"),
        ("alias.add a@b x", "alias.add a@b x"),
        ("send add", "send add"),
        ("", ""),
    ],
)
def test_two_words_are_one_task(words: str, expected: str) -> None:
    assert join(words.split(), CONTEXTS) == expected.split()


@pytest.mark.parametrize("words", ["alias", "alias x", "alias --json"])
def test_first_word_alone_says_what_may_follow(words: str) -> None:
    with pytest.raises(invoke.exceptions.Exit, match=r"^\./inv alias: one of these must follow: add$"):
        join(words.split(), CONTEXTS)


def test_an_explained_error_is_its_text_and_exit_code_1() -> None:
    @command()
    def broken(context):  # type: ignore[no-untyped-def]
        """Break."""
        raise PermanentError("the disk is full; make room")

    with pytest.raises(invoke.exceptions.Exit, match=r"^the disk is full; make room$") as caught:
        broken(invoke.Context())
    assert caught.value.code == 1


def test_ctrl_c_is_exit_code_130() -> None:
    @command()
    def interrupted(context):  # type: ignore[no-untyped-def]
        """Wait."""
        raise KeyboardInterrupt

    with pytest.raises(invoke.exceptions.Exit) as caught:
        interrupted(invoke.Context())
    assert caught.value.code == 130


TASKS = ("up", "send", "test", "e2e", "build", "lock", "config")
TWO_WORDS = (
    *("user.add", "user.passwd", "user.remove", "user.list"),
    *("alias.add", "alias.remove", "alias.list"),
    *("app-password.add", "app-password.list", "app-password.revoke"),
)


def run(*arguments: str, folder: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "tasks.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_list_names_every_task_with_one_line(tmp_path: Path) -> None:
    result = run("--list", folder=tmp_path)
    assert result.returncode == 0
    for task in (*TASKS, *TWO_WORDS):
        line = next(one for one in result.stdout.splitlines() if one.split()[:1] == [task])
        assert len(line.split()) > 3, f"{task} has no help"


@pytest.mark.parametrize("task", [*TASKS, *TWO_WORDS])
def test_every_option_has_help(task: str) -> None:
    result = run(*task.split("."), "--help")
    assert result.returncode == 0
    options = [one.strip() for one in result.stdout.partition("Options:")[2].splitlines()]
    assert not [one for one in options if one.startswith("-") and "  " not in one]


def test_bad_configuration_is_reported_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("regio = 1\n")
    result = run("config", "--config", str(tmp_path / "bad.toml"))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "bad.toml: regio: unknown key" in result.stderr


def test_config_says_where_an_address_leads() -> None:
    assert (
        run("config", "--address", "family@pfeiffer.rocks").stdout.strip()
        == "family@pfeiffer.rocks → anna, rene"
    )
    assert "is refused" in run("config", "--address", "x@example.net").stdout
