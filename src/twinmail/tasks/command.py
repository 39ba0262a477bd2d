"""A task whose errors are words for its user: one clear text and an exit code, never a traceback."""

import functools
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
            try:
                return function(*arguments, **named)
            except TwinmailError as error:
                raise Exit(str(error), code=1) from error
            except KeyboardInterrupt as error:
                raise Exit("interrupted", code=INTERRUPTED) from error

        return task(klass=Command, **options)(run)

    return wrap


class Command(Task[Any]):
    """invoke's task, with a help that can be read more than once: invoke takes it apart while it reads."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> Any:
        """The arguments, each with its help."""
        texts: dict[str, str] = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = texts
