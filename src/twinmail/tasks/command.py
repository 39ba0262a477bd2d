"""A task whose errors are words for its user: one clear text and an exit code, never a traceback."""

import functools
from collections.abc import Callable
from typing import Any

import invoke
from invoke.exceptions import Exit

from twinmail.errors import TwinmailError

INTERRUPTED = 130


def command(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Like `invoke.task`, for functions that raise `TwinmailError`.

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

        return invoke.task(**options)(run)

    return wrap
