"""The supervisor's end of a keeper: start it, hear from it, send signals through it, wait for it."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from twinmail.runtime.keeper import Plan

_SOURCE = Path(__file__).parents[2]
# Isolated and without site packages: nothing of the caller's surroundings can change what the keeper runs.
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from twinmail.runtime.keeper import main; main()"


class StartFailed(Exception):
    """What kept the container's program from starting.

    Attributes:
        stage: ``namespaces`` (this machine did not let us), ``setup`` or ``program``.
        reason: the failed call and the error.
        number: errno, 0 if unknown.
    """

    def __init__(self, stage: str, reason: str, number: int) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
        self.number = number


class Keeper:
    """One keeper process. Closing it, also by dying, ends its container.

    Attributes:
        pid: the keeper's process id.
        container_pid: that of the container's first process, once `wait_for_start` has returned.
    """

    def __init__(self, plan: Plan, output: IO[bytes] | None = None, inherited: Sequence[int] = ()) -> None:
        """Start it; without a file for the *output* `read_output` returns it."""
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(_SOURCE), str(writing), *map(str, inherited)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if output is None else output,
                stderr=subprocess.STDOUT,
                pass_fds=(writing, *inherited),
                start_new_session=True,  # Ctrl-C is for the supervisor, which then stops in order
                cwd="/",
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._report = reading
        self.pid = self._process.pid
        self.container_pid = 0
        self._send(plan.to_line())

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_for_start(self) -> None:
        """Return when the container's program was started.

        Raises:
            StartFailed: it could not be.
        """
        with os.fdopen(self._report, "rb") as report:
            text = report.read()  # its end is the moment of exec, which closes it
        self._report = -1
        lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
        for line in lines:
            if "stage" in line:
                raise StartFailed(line["stage"], line["reason"], line["number"])
            self.container_pid = line["pid"]
        if not self.container_pid:
            tail = self._process.stdout.read().decode(errors="replace")[-500:] if self._process.stdout else ""
            raise StartFailed("setup", f"the keeper ended early: {tail}".rstrip(": "), 0)

    def poll(self) -> int | None:
        """The container's exit code, or None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def wait(self, timeout: float) -> int:
        """Wait for the end, at most *timeout* seconds; return the exit code.

        Raises:
            TimeoutError: it still runs.
        """
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        return code if code >= 0 else 128 - code

    def kill(self, number: signal.Signals) -> None:
        """Send *number* to the container's first process."""
        self._send(b"%d\n" % number)

    def read_output(self, timeout: float) -> bytes | None:
        """All output up to its end, or None if that did not come in *timeout* seconds."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        pieces: list[bytes] = []
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
        return None

    def close(self) -> None:
        """End the container if it runs, and wait until it is gone."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._report >= 0:
            os.close(self._report)
            self._report = -1

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or is closed already
            self._process.stdin.write(data)
            self._process.stdin.flush()
