"""Runs the commands of a runbook as they stand there, and holds what they print against what the page shows.

A block runs if ``<!-- runs -->`` stands above it; with ``<!-- runs: NAME -->`` the test does NAME first.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twinmail.tasks.config import PROJECT

FOLDER = PROJECT / "docs" / "runbooks"
_BLOCK = re.compile(
    r"^ *<!-- runs(?:: (?P<first>[^>]*))? -->\n+(?P<indent> *)```console\n(?P<text>.*?)^ *```$", re.M | re.S
)
# What is different each time: numbers, passwords, identifiers.
_VARYING = (
    (r"[a-z0-9]{5}(?:-[a-z0-9]{5}){3}", r"[a-z0-9]{5}(?:-[a-z0-9]{5}){3}"),
    (r"\b(?:AKIA|LKIA)[A-Z0-9]{8,}", r"[AL]KIA[A-Z0-9]+"),
    (r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b", r"[0-9a-f]+"),
    (r"[0-9][0-9.,:]*", r"[0-9][0-9.,:]*"),
    (r" {2,}", r" +"),
    (r"…", r".*"),
)
_LOOKS = ("./inv search", "./inv show", "./inv status")
_PATIENCE_SECONDS = 60.0
_SHIM = """\
#!{python}
import sys
sys.path[:0] = ["{project}/src", "{project}"]
from tasks import Program, namespace
contexts = {{one.name: one for one in namespace.to_contexts()}}
aliases = {{alias: one for one in contexts.values() for alias in one.aliases}}
words = sys.argv[1:]
name = ".".join(words[:2]) if ".".join(words[:2]) in contexts else words[0]
flags = (contexts.get(name) or aliases[name]).flags
more = [part for flag, value in (("--state", "{state}"), ("--config", "{config}")) if flag in flags
        for part in (flag, value)]
Program(namespace=namespace).run(["inv", *words, *more])
"""


@dataclass(frozen=True)
class Command:
    """One line after a dollar sign, and what the page says that it prints.

    Attributes:
        first: what the test does before it.
    """

    line: str
    output: tuple[str, ...]
    first: str = ""


def commands(page: Path) -> Iterator[Command]:
    """The commands of *page* that run."""
    for block in _BLOCK.finditer(page.read_text("utf-8")):
        first = block["first"] or ""
        for one in _typed(block["text"], len(block["indent"])):
            yield replace(one, first=first)
            first = ""


def _typed(text: str, indent: int) -> Iterator[Command]:
    lines = [line[indent:] for line in text.splitlines()]
    while lines:
        line = lines.pop(0)
        assert line.startswith("$ "), f"expected a command, got {line!r}"
        while line.endswith("\\"):
            line += "\n" + lines.pop(0)
        output = []
        while lines and not lines[0].startswith("$ "):
            output.append(lines.pop(0))
        yield Command(line[2:], tuple(output))


def pattern(line: str) -> re.Pattern[str]:
    """What a line may look like of which the page shows *line*."""
    found = "|".join(f"({one})" for one, _ in _VARYING)
    parts, at = [], 0
    for match in re.finditer(found, line):
        parts += [re.escape(line[at : match.start()]), _VARYING[(match.lastindex or 1) - 1][1]]
        at = match.end()
    return re.compile("".join((*parts, re.escape(line[at:]))) + r"\s*")


def missing(shown: Sequence[str], said: Sequence[str]) -> str | None:
    """The first line of *shown* that *said* lacks; a page may show less than is printed, in the same order."""
    rest = iter(said)
    for line in (one for one in shown if one.strip() not in ("", "…")):
        if not any(pattern(line.strip()).fullmatch(got.strip()) for got in rest):
            return line
    return None


def assert_shown(page: str, line: str, said: Sequence[str]) -> None:
    """What the runbook *page* shows below the command *line*, wherever it runs, is what a test saw: *said*."""
    text = (FOLDER / page).read_text("utf-8")
    for block in re.finditer(r"^( *)```console\n(.*?)^ *```$", text, re.M | re.S):
        for one in _typed(block[2], len(block[1])):
            if one.line == line and one.output:
                assert missing(one.output, said) is None, f"{page}: $ {line}\n" + "\n".join(said)
                assert "…" in "".join(one.output) or len(one.output) == len(said), "\n".join(said)
                return
    raise AssertionError(f"{page} shows nothing of {line}")


class Desk:
    """Where an operator types: a folder with ``./inv`` and ``twinmail.toml``."""

    def __init__(
        self, folder: Path, state: Path, config: Path, first: Mapping[str, Callable[[], None]]
    ) -> None:
        self._folder, self._first = folder, first
        inv = folder / "inv"
        inv.write_text(_SHIM.format(python=sys.executable, project=PROJECT, state=state, config=config))
        inv.chmod(0o755)

    def follow(self, page: str) -> int:
        """Do what the runbook *page* says, and return how many commands that were."""
        done = 0
        for one in commands(FOLDER / page):
            if one.first:
                self._first[one.first]()
            self._type(page, one)
            done += 1
        return done

    def _type(self, page: str, command: Command) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            problem = self._try(page, command)
            # Who only looks may look again: a message is on its way.
            if problem is None or not command.line.startswith(_LOOKS) or time.monotonic() > deadline:
                assert problem is None, problem
                return
            time.sleep(0.2)

    def _try(self, page: str, command: Command) -> str | None:
        """Type it once; what is wrong with what it said, or None."""
        ran = subprocess.run(
            ["bash", "-c", command.line],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=120,
        )
        said = [line.rstrip() for line in ran.stdout.splitlines()]
        report = f"{page}: $ {command.line}\n" + "\n".join(said)
        line = missing(command.output, said)
        if line is not None:
            return f"{line!r} is missing\n{report}"
        return None if ran.returncode == 0 else f"exit code {ran.returncode}\n{report}"
