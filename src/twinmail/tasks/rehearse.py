"""``./inv rehearse``: the whole first day of a system on this machine, with the time that each step took."""

import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

if TYPE_CHECKING:
    from twinmail.rehearsal.stage import Stage
    from twinmail.rehearsal.step import Outcome

CLEAN_UP = "clean-up"


@command(
    help={
        "without": "leave a part out: primary; may be given several times",
        "keep": "leave it running when the story ends, well or not, until Ctrl-C",
        "pinned": "stop if the images are not those of images/digests.json",
        "state": "folder for everything of it, removed at the end (default: .twinmail/rehearsal)",
        "json": "print one JSON object instead of the table",
    },
    iterable=["without"],
)
def rehearse(
    context: Any,
    without: list[str],
    keep: bool = False,
    pinned: bool = False,
    state: str = "",
    json_: bool = False,
) -> None:
    """Play the first day of a system here: deploy, people, mail, a server lost and made again."""
    # Ended by a service manager or a script it cleans up as by hand.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from twinmail.local.state import Claim, State
    from twinmail.rehearsal import needs
    from twinmail.rehearsal.stage import Stage
    from twinmail.rehearsal.step import DONE, Outcome, StepFailed, run
    from twinmail.rehearsal.story import STEPS

    if unknown := [one for one in without if one not in needs.PARTS]:
        raise PermanentError(f"--without: unknown part {unknown[0]!r}; known: {', '.join(needs.PARTS)}")
    needs.check(without)
    folder = Path(state).absolute() if state else PROJECT / ".twinmail" / "rehearsal"
    claim = Claim(State.of_checkout(PROJECT, folder))
    if not claim.take():
        raise PermanentError("a rehearsal already runs here; wait for its end, or stop it with Ctrl-C there")
    say = _Say()
    outcomes: list[Outcome] = []
    failure: StepFailed | None = None
    stage = Stage(PROJECT, folder, _build, say, pinned)
    try:
        try:
            run(STEPS, stage, without, say, outcomes)
        except StepFailed as error:
            failure = error
        if keep:
            _print(outcomes, say.seconds, json_)
            _wait(stage, failure)
    finally:
        say("clean-up: ending and removing everything")
        began = say.seconds
        stage.close()
        outcomes.append(Outcome(CLEAN_UP, say.seconds - began, f"{DONE}: nothing of it is left"))
        say("clean-up: done")
    if not keep:
        _print(outcomes, say.seconds, json_)
    if failure:
        raise PermanentError(
            f"{failure}\nrepair that, and run it again; with --keep it stays to be looked at"
        ) from failure


class _Say:
    """One line an event on standard error, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def __call__(self, text: str) -> None:
        print(f"{self.seconds:6.1f} s  {text}", file=sys.stderr, flush=True)


def _build() -> Any:
    """Bring the images up to date, for this machine's platform."""
    from twinmail.runtime.emulation import host_platform
    from twinmail.tasks.build import images

    return images([], (host_platform(),), False)


def _print(outcomes: "list[Outcome]", seconds: float, as_json: bool) -> None:
    if as_json:
        steps = [one.to_json() for one in outcomes]
        print(json.dumps({"steps": steps, "seconds": round(seconds, 1)}), flush=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("step", "seconds", "result", title="The first day, rehearsed")
    table.columns[1].justify = "right"
    for one in outcomes:
        table.add_row(one.name, f"{one.seconds:.1f}", one.result)
    table.add_section()
    table.add_row("together", f"{seconds:.1f}", "")
    Console(highlight=False).print(table)


def _wait(stage: "Stage", failure: Exception | None) -> None:
    """Say how to look at what runs, and return at Ctrl-C."""
    if failure:
        print(failure, file=sys.stderr)
    print(f"\nIt runs until Ctrl-C; CA file: {stage.system.ca}, LocalStack: {stage.system.endpoint}")
    for server in stage.servers:
        print(f"  {server.name}: IMAPS 127.0.0.1:{server.ports.imaps}")
    for user, password in stage.passwords.items():
        print(f"  {user}, password {password}")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        signal.pause()
