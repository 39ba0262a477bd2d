"""One Lambda execution environment: a function's process, its time, its memory and its log."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from twinmail_localstack.runtime_api import Answer, Event, RuntimeApi

INIT_SECONDS = 10
"""How long a function's module may take to import before the environment is given up, as in AWS."""

POLL_SECONDS = 0.05
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Function:
    """What a sandbox runs.

    Attributes:
        code: folder with the unpacked zip.
        environment: variables of the process, complete but for those that only the sandbox knows.
        timeout: seconds an invocation may take.
        memory: MiB that the process may hold.
    """

    handler: str
    code: Path
    environment: Mapping[str, str]
    timeout: int
    memory: int


@dataclass(frozen=True)
class Outcome:
    """The end of one invocation: the function's answer or error, and everything it logged."""

    payload: bytes
    is_error: bool
    log: str


class Misfortune(Enum):
    """How an invocation, or what it would have run in, comes to its end."""

    KILLED = auto()
    TIMED_OUT = auto()
    OUT_OF_MEMORY = auto()
    COLD = auto()


@dataclass(frozen=True)
class Mishap:
    """What befalls one invocation, in chaos runs.

    Attributes:
        after: seconds from its beginning; COLD comes before it.
        settle: called once, with whether it was still running then.
    """

    misfortune: Misfortune
    after: float
    settle: Callable[[bool], None]


class Sandbox:
    """Runs invocations of one function one after another; a process that died is started anew."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._scratch = Path(tempfile.mkdtemp(prefix="function-"))
        # A file and not a pipe: when the answer is there, so is all that was written before it.
        self._log_path = self._scratch / "log"
        self._log_path.touch()
        self._log_offset = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._api: RuntimeApi | None = None
        self._init_ms: float | None = None
        self._failure: bytes | None = None

    def start(self) -> None:
        """Start the process and wait until it asks for an event, fails, ends or has taken too long.

        A failure is kept for the next invocation, which is what sees it in AWS.
        """
        began = time.monotonic()
        self._failure = None
        self._api = RuntimeApi()
        self._process = self._spawn(self._api)
        while True:
            if self._api.idle():
                self._init_ms = (time.monotonic() - began) * 1000
                return
            if answer := self._api.wait(POLL_SECONDS):
                self._failure = answer.payload
            elif (code := self._process.poll()) is not None:
                self._failure = _error("Runtime.ExitError", f"Runtime exited {_cause(code)}")
            elif time.monotonic() - began > INIT_SECONDS:
                self._failure = _error("Sandbox.Timedout", f"Init timed out after {INIT_SECONDS}.00 seconds")
            if self._failure is not None:
                self._end()
                return

    def invoke(
        self,
        request_id: str,
        payload: bytes,
        function_arn: str,
        trace_id: str,
        mishap: Mishap | None = None,
    ) -> Outcome:
        """Run one invocation to its end: answer, error, time-out, death or too much memory."""
        if mishap is not None and mishap.misfortune is Misfortune.COLD:
            mishap.settle(self._process is not None)
            self._end()
            mishap = None
        if self._process is None or self._process.poll() is not None:
            self._end()
            if self._failure is None:
                self.start()
        began = time.time()
        event = Event(
            request_id,
            payload,
            function_arn,
            deadline_ms=int((began + self._function.timeout) * 1000),
            trace_id=trace_id,
        )
        result, is_error = self._run(event, time.monotonic() + self._function.timeout, mishap)
        log = self._log(event, duration_ms=(time.time() - began) * 1000)
        if is_error and self._process is None:
            # The runtime is dead and could not log its own end; AWS adds this line too.
            log += f"{result.decode('utf-8', errors='replace')}\n"
        return Outcome(result, is_error, log)

    def stop(self) -> None:
        """End the process and remove its files."""
        self._end()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def log(self) -> str:
        """Everything the process wrote so far."""
        return self._log_path.read_text("utf-8", errors="replace") if self._log_path.exists() else ""

    def _spawn(self, api: RuntimeApi) -> "subprocess.Popen[bytes]":
        temporary = self._scratch / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {
            **self._function.environment,
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "LAMBDA_TASK_ROOT": str(self._function.code),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
        }
        with self._log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "awslambdaric", self._function.handler],
                cwd=self._function.code,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # The limit proper is on resident memory, below; this stops a process that outruns the watch.
        ceiling = (2 * self._function.memory + 64) * MEBIBYTE
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (ceiling, ceiling))
        return process

    def _run(self, event: Event, deadline: float, mishap: Mishap | None) -> tuple[bytes, bool]:
        struck = time.monotonic() + mishap.after if mishap else None
        memory = self._function.memory * MEBIBYTE
        if self._failure is not None:
            failure, self._failure = self._failure, None
            if mishap:
                mishap.settle(False)
            return failure, True
        assert self._api is not None and self._process is not None
        self._api.offer(event)
        while True:
            until = POLL_SECONDS if struck is None else min(POLL_SECONDS, max(0.0, struck - time.monotonic()))
            answer = self._api.wait(until)
            if isinstance(answer, Answer):
                if mishap:
                    mishap.settle(False)
                return answer.payload, answer.is_error
            if mishap and struck is not None and time.monotonic() >= struck:
                mishap.settle(True)
                match mishap.misfortune:
                    case Misfortune.KILLED:
                        self._kill()
                        self._process.wait()
                    case Misfortune.OUT_OF_MEMORY:
                        memory = 0
                    case Misfortune.TIMED_OUT:
                        deadline = 0.0
                mishap = struck = None
            if (code := self._process.poll()) is not None:
                # Its last words may have arrived between the wait and the look.
                if (answer := self._api.wait(0)) is not None:
                    return answer.payload, answer.is_error
                failure = _error("Runtime.ExitError", f"Runtime exited {_cause(code)}", event)
            elif _resident(self._process.pid) > memory:
                failure = _error("Runtime.ExitError", "Runtime exited with error: signal: killed", event)
            elif time.monotonic() > deadline:
                seconds = f"{self._function.timeout}.00"
                failure = _error("Sandbox.Timedout", f"Task timed out after {seconds} seconds", event)
            else:
                continue
            self._end()
            return failure, True

    def _log(self, event: Event, duration_ms: float) -> str:
        with self._log_path.open("rb") as file:
            file.seek(self._log_offset)
            written = file.read()
        self._log_offset += len(written)
        text = written.decode("utf-8", errors="replace")
        if text and not text.endswith("\n"):
            text += "\n"
        report = [f"Duration: {duration_ms:.2f} ms", f"Billed Duration: {int(duration_ms) + 1} ms"]
        report += [f"Memory Size: {self._function.memory} MB"]
        if self._process is not None:
            report += [f"Max Memory Used: {_peak(self._process.pid) // MEBIBYTE} MB"]
        if self._init_ms is not None:
            report += [f"Init Duration: {self._init_ms:.2f} ms"]
            self._init_ms = None
        joined = "\t".join(report)
        version = self._function.environment.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        return (
            f"START RequestId: {event.request_id} Version: {version}\n{text}"
            f"END RequestId: {event.request_id}\n"
            f"REPORT RequestId: {event.request_id}\t{joined}\n"
        )

    def _end(self) -> None:
        if self._process is not None:
            self._kill()
            self._process.wait()
            self._process = None
        if self._api is not None:
            self._api.close()
            self._api = None

    def _kill(self) -> None:
        # The whole session: a function may have started processes of its own.
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _error(kind: str, message: str, event: Event | None = None) -> bytes:
    request = event.request_id if event else str(uuid.uuid4())
    return json.dumps({"errorType": kind, "errorMessage": f"RequestId: {request} Error: {message}"}).encode()


def _cause(code: int) -> str:
    if code < 0:
        return f"with error: signal: {signal.strsignal(-code) or -code}".lower()
    return f"with error: exit status {code}" if code else "without providing a reason"


def _resident(pid: int) -> int:
    """Resident memory of a process in bytes; 0 when it has just ended (proc_pid_statm(5))."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()


def _peak(pid: int) -> int:
    """The most resident memory a process had, in bytes; 0 when it has just ended (proc_pid_status(5))."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
