"""The error types of the whole project.

Every error says what, where, expected and got, and what to do about it. Whether a retry can help is part
of the type, because each caller (Lambda, the syncer, a task) must decide on it.
"""

from collections.abc import Sequence


class TwinmailError(Exception):
    """Base of every error that twinmail raises on purpose; its text is written for the operator."""


class PermanentError(TwinmailError):
    """Trying again cannot help: the input or the configuration must change."""


class TransientError(TwinmailError):
    """Trying again later can help: a service, a disk or a network is not available now."""


class ConfigError(PermanentError):
    """The configuration has problems; all of them are reported together.

    Attributes:
        problems: one line each, in file order.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} problem{'' if count == 1 else 's'} in {source}:"
        super().__init__("\n".join([head, *(f"  {line}" for line in self.problems)]))
