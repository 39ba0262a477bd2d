"""Programs of a rehearsal: they end with it, and Ctrl-C at the terminal is not theirs."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from twinmail.errors import PermanentError


class ProgramFailed(PermanentError):
    """A program ended with an error, or did not start."""


def run(argv: Sequence[str | Path], folder: Path | None = None, name: str = "") -> bytes:
    """The standard output of *argv*, run in *folder*.

    Args:
        name: what it is called when it fails, if not by its first words.

    Raises:
        ProgramFailed: see there.
    """
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, check=False, start_new_session=True)
    except OSError as error:
        raise ProgramFailed(f"{argv[0]}: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        known_as = name or " ".join(map(str, argv[:4]))
        raise ProgramFailed(f"{known_as}: {said or f'it ended with {done.returncode}'}")
    return done.stdout


def start(argv: Sequence[str | Path], log: Path, alone: bool = False) -> "subprocess.Popen[bytes]":
    """Start *argv*, which writes to *log*; however this process ends, that one does too.

    Args:
        alone: in a process namespace of its own, so that all it has started ends with it.
    """
    wrap = ["setpriv", "--pdeathsig=KILL"]
    if alone:
        wrap += ["unshare", "--pid", "--fork", "--kill-child=KILL"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*wrap, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    """End *process*, which has nothing to put in order, and return when it has ended."""
    process.kill()
    process.wait()
