"""``./inv bench``: measure on this machine what the documentation gives figures for."""

import json
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.table import Table
    from twinmail.runtime.interface import Runtime

FOLDER = PROJECT / ".twinmail" / "bench"


class Result(Protocol):
    """What a benchmark came to."""

    def to_json(self) -> dict[str, Any]:
        """One object for scripts."""

    def tables(self) -> "tuple[Table, ...]":
        """For people."""


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    messages: int
    runtime: str


@command(
    positional=["name"],
    help={
        "name": "what to measure: search, lambda, idle, poll, latency, build, restore",
        "messages": "how many messages the mailbox of search has",
        "runtime": "docker or namespace, for search and latency (default: Docker where an engine answers)",
        "report": "write the result into docs/benchmarks.md too",
        "json": "print one JSON object",
    },
    auto_shortflags=False,
)
def bench(
    context: Any,
    name: str,
    messages: int = 50_000,
    runtime: str = "",
    report: bool = False,
    json_: bool = False,
) -> None:
    """Measure: ./inv bench search (half an hour and 4 GB), lambda (5 minutes), idle (2), poll (5),
    latency (10), build (5; with mmdebstrap), restore (30 minutes and 30 GB; with nginx)."""
    if name not in BENCHMARKS:
        raise PermanentError(f"unknown benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    if not 1000 <= messages <= 1_000_000:
        raise PermanentError(f"--messages: expected 1000 to 1000000, got {messages}")
    # Ended by a service manager or a script it cleans up as by hand.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = BENCHMARKS[name](Asked(messages, runtime))
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    if json_:
        print(json.dumps(result.to_json()))
    else:
        _print(result)
    if report:
        _write(name, f"./inv bench {name}", result)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _search(asked: Asked) -> Result:
    from bench.search import measure
    from twinmail.runtime.emulation import host_platform
    from twinmail.tasks.build import images

    images(["dovecot"], (host_platform(),), False)
    with _runtime(asked.runtime) as chosen:
        layout = PROJECT / ".twinmail" / "images" / "dovecot"
        return measure(chosen, layout, FOLDER / "search", asked.messages, _say)


def _lambda(asked: Asked) -> Result:
    from bench.function import measure

    return measure(_say)


def _idle(asked: Asked) -> Result:
    from bench.idle import measure
    from twinmail.local.state import State
    from twinmail.runtime.emulation import host_platform
    from twinmail.tasks.build import images

    images([], (host_platform(),), False)
    return measure(FOLDER / "idle", State.of_checkout(PROJECT), host_platform(), _say)


def _poll(asked: Asked) -> Result:
    from bench.poll import measure

    return measure(FOLDER, _say)


def _latency(asked: Asked) -> Result:
    from bench.latency import measure
    from twinmail.local.state import State
    from twinmail.runtime.emulation import host_platform
    from twinmail.tasks.build import images

    images([], (host_platform(),), False)
    with _runtime(asked.runtime) as chosen:
        return measure(FOLDER / "latency", State.of_checkout(PROJECT), chosen, host_platform(), _say)


def _build(asked: Asked) -> Result:
    from bench.build import measure
    from twinmail.config import Environment
    from twinmail.oci.mirrors import Mirrors

    mirrors = Mirrors.of_machine(PROJECT, Environment.read().debian_mirror)
    return measure(FOLDER / "build", PROJECT, mirrors, _say)


def _restore(asked: Asked) -> Result:
    from bench.restore import measure

    return measure(FOLDER / "restore", _say)


BENCHMARKS: Mapping[str, Callable[[Asked], Result]] = {
    "search": _search,
    "lambda": _lambda,
    "idle": _idle,
    "poll": _poll,
    "latency": _latency,
    "build": _build,
    "restore": _restore,
}


@contextmanager
def _runtime(name: str) -> "Iterator[Runtime]":
    from twinmail.runtime.select import choose

    chosen = choose(name or None, FOLDER / "runtime", PROJECT / ".twinmail" / "layers")
    chosen.remove_leftovers()
    try:
        yield chosen
    finally:
        chosen.remove_leftovers()


def _print(result: Result) -> None:
    from rich import table
    from rich.console import Console

    console = Console(width=110, highlight=False)
    for one in result.tables():
        shown = table.Table(title=one.title)
        for number, head in enumerate(one.heads):
            shown.add_column(head, justify="right" if number else "left")
        for row in one.rows:
            shown.add_row(*row)
        console.print(shown)


def _write(name: str, typed: str, result: Result) -> None:
    from bench import report
    from twinmail import durable_file

    path = PROJECT / report.DOCUMENT
    before = path.read_text("utf-8") if path.exists() else ""
    made = report.section(name, typed, datetime.now(UTC).date(), result.tables())
    durable_file.write(Path(path), report.written(before, name, made).encode())
