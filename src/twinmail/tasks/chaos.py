"""``./inv chaos``: mail under load while everything breaks, and a count of what was lost or came twice."""

import json
import random
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

if TYPE_CHECKING:
    from twinmail.chaos.run import Result

MOST = 100_000
_SEEDS = 1_000_000
_SHOWN = 20


@command(
    help={
        "messages": "how many to send",
        "seed": "of messages and faults; the same one repeats a run (default: any)",
        "faults": "all, none, or names and beginnings of names with commas, such as s3,syncer-killed",
        "list": "name the faults and end",
        "runtime": "docker or namespace (default: namespace where this machine has it)",
        "report": "write the result into this file too, as a table in Markdown",
        "json": "print one JSON object instead of the table",
    },
    auto_shortflags=False,
)
def chaos(
    context: Any,
    messages: int = 200,
    seed: int = -1,
    faults: str = "all",
    list_: bool = False,
    runtime: str = "",
    report: str = "",
    json_: bool = False,
) -> None:
    """Break everything while mail comes in, then count. Exit code 1 if anything is lost or there twice."""
    # Ended by a service manager or a script it cleans up as by hand.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from twinmail.chaos.catalogue import NAMES, SENTENCES, names_of
    from twinmail.chaos.report import markdown
    from twinmail.chaos.run import Run
    from twinmail.local.state import Claim, State
    from twinmail.runtime.emulation import host_platform
    from twinmail.runtime.select import available, choose
    from twinmail.tasks.build import images

    if list_:
        print("\n".join(f"{name:28} {SENTENCES[name]}" for name in NAMES))
        return
    if not 0 < messages <= MOST:
        raise PermanentError(f"--messages: expected 1 to {MOST}, got {messages}")
    chosen = names_of(faults)
    seed = random.randrange(_SEEDS) if seed < 0 else seed
    folder = PROJECT / ".twinmail" / "chaos"
    claim = Claim(State.of_checkout(PROJECT, folder / "local"))
    if not claim.take():
        raise PermanentError("a chaos run is under way here; wait for its end, or stop it with Ctrl-C there")
    images([], (host_platform(),), False)
    checkout = State.of_checkout(PROJECT)
    wanted = runtime or ("namespace" if "namespace" in available() else None)
    engine = choose(wanted, folder / "local", checkout.layers)
    say = _Say()
    say(f"seed {seed}, {messages} messages, {len(chosen)} faults; starting the system")
    try:
        with Run(folder, checkout, engine, host_platform(), messages, seed, say) as run:
            here = [one for one in chosen if one in run.faults()]
            for name in sorted(set(chosen) - set(here)):
                say(f"left out, since this machine cannot have it: {name}")
            result = run.run(here)
    finally:
        say("ending everything")
        engine.remove_leftovers()
        shutil.rmtree(folder, ignore_errors=True)
    if json_:
        print(json.dumps(result.to_json()), flush=True)
    else:
        _print(result)
    if report:
        Path(report).write_text(markdown(result, datetime.now(UTC).date()), "utf-8")
    again = f"repeat it with --messages {messages} --seed {seed} --faults {faults}"
    if not result.verdict.clean:
        raise PermanentError(again)
    if result.sent < messages:
        raise PermanentError(f"{messages - result.sent} messages were never accepted; {again}")
    if result.idle:
        raise PermanentError(
            f"nothing is known of faults that never took effect: {', '.join(result.idle)}; "
            "send more messages, or name fewer faults"
        )


class _Say:
    """One line an event on standard error, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", file=sys.stderr, flush=True)


def _print(result: "Result") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("fault", "windows", "took effect", title=f"Seed {result.seed}")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, count in sorted(result.faults.items()):
        table.add_row(name, str(result.windows[name]), str(count))
    console.print(table)
    told = result.to_json()
    for word in ("sent", "lost", "duplicated", "changed", "unasked"):
        console.print(f"{told[word]:9,} {word}")
    for word in ("lost", "duplicated", "changed", "unasked"):
        for line in getattr(result.verdict, word)[:_SHOWN]:
            console.print(f"{word}: {line}")
