"""``./inv import``: how far it is, and where its password comes from."""

import io
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from twinmail.errors import PermanentError
from twinmail.importing.report import Report, State, lines
from twinmail.importing.source import Folder
from twinmail.secret_store import SecretStore
from twinmail.tasks import config as tasks_config
from twinmail.tasks import import_
from twinmail.tasks.import_progress import ImportProgress


def report(messages: int, octets: int) -> Report:
    found = Report("ann", "old")
    counts = found.folder("INBOX", "INBOX")
    for _ in range(messages):
        counts.add(State.IMPORTED, octets)
    return found


@pytest.mark.parametrize(
    ("folders", "text"),
    [
        ([Folder(("INBOX",), messages=300)], "100 of 300 messages, 5 MB, 2/s, 1 min left, in INBOX"),
        ([Folder(("INBOX",), messages=120)], "100 of 120 messages, 5 MB, 2/s, 10 s left, in INBOX"),
        ([Folder(("a",), octets=20_000_000)], "100 messages, 5 MB, 2/s, 2 min left, in INBOX"),
        ([Folder(("a",), messages=3), Folder(("b",))], "100 messages, 5 MB, 2/s, in INBOX"),
    ],
)
def test_progress_says_rate_and_time_left(folders: list[Folder], text: str) -> None:
    assert ImportProgress(folders).text(report(100, 50_000), 50.0) == text


def test_progress_is_not_told_for_every_message(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = count()
    with ImportProgress([Folder(("INBOX",), messages=9)], lambda: float(next(seconds))) as progress:
        for _ in range(25):
            progress.show(report(1, 1))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    found = Report("ann", "old")
    found.folder("\x1b]0;title\x07", "INBOX").add(State.IMPORTED, 1)
    told = "\n".join([*lines(found, "new"), ImportProgress([]).text(found, 1.0)])
    assert all(one.isprintable() or one == "\n" for one in told)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(tasks_config, "PROJECT", tmp_path)
    yield tmp_path


def test_password_from_a_file_descriptor() -> None:
    reader, writer = os.pipe()
    os.write(writer, "pässword\nrest".encode())
    os.close(writer)
    assert import_._password("ann", "", reader) == "pässword"
    os.close(reader)


def test_password_from_a_secret(project: Path) -> None:
    SecretStore(project / ".twinmail" / "secrets").put("import/old", b"password\n")
    assert import_._password("ann", "import/old", -1) == "password"
    with pytest.raises(PermanentError, match="--secret import/new: there is none of this name"):
        import_._password("ann", "import/new", -1)


@pytest.mark.parametrize(
    ("secret", "descriptor", "problem"),
    [
        ("a", 0, "give one of them"),
        ("", 999, "--password-fd 999: Bad file descriptor"),
        ("", -1, "no terminal"),
    ],
)
def test_no_password(secret: str, descriptor: int, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(PermanentError, match=problem):
        import_._password("ann", secret, descriptor)
