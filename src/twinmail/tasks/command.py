"""A task whose errors are words for its user: one clear text and an exit code, never a traceback."""

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any

from invoke.exceptions import Exit
from invoke.tasks import Task, task

from twinmail.errors import TwinmailError

INTERRUPTED = 130


def command(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Like `task` of invoke, for functions that raise `TwinmailError`.

    Exit codes: 0 done, 1 an error that was explained, 130 interrupted.
    """

    def wrap(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            _hear_interruptions()
            try:
                return function(*arguments, **named)
            except TwinmailError as error:
                raise Exit(str(error), code=1) from error
            except KeyboardInterrupt as error:
                raise Exit("interrupted", code=INTERRUPTED) from error

        return task(klass=Command, **options)(run)

    return wrap


def _hear_interruptions() -> None:
    """Let SIGINT interrupt: a job that a shell started in the background ignores it from its birth."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    # Only the main thread may change it.
    if ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Command(Task[Any]):
    """invoke's task, with a help that can be read more than once: invoke takes it apart while it reads."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> Any:
        """The arguments, each with its help."""
        texts: dict[str, str] = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = texts
