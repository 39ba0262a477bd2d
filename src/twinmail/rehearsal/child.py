"""Programs of a rehearsal: they end with it, and Ctrl-C at the terminal is not theirs."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from twinmail.errors import PermanentError

_END_SECONDS = 30


class ProgramFailed(PermanentError):
    """A program ended with an error, or did not start."""


def run(
    argv: Sequence[str | Path], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> bytes:
    """The standard output of *argv*, run in *folder*.

    Raises:
        ProgramFailed: see there.
    """
    try:
        done = subprocess.run(
            argv, cwd=folder, env=environment, capture_output=True, check=False, start_new_session=True
        )
    except OSError as error:
        raise ProgramFailed(f"{argv[0]}: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        raise ProgramFailed(f"{' '.join(map(str, argv[:6]))}: {said or f'it ended with {done.returncode}'}")
    return done.stdout


def start(argv: Sequence[str | Path], log: Path) -> "subprocess.Popen[bytes]":
    """Start *argv*, which writes to *log*; it is killed if this process dies."""
    # util-linux has it, as it has unshare: everywhere.
    setpriv = shutil.which("setpriv")
    with log.open("wb") as output:
        return subprocess.Popen(
            [*([setpriv, "--pdeathsig", "TERM"] if setpriv else []), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    """End *process*, and return when it has ended."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
