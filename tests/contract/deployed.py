"""The cloud stack, deployed once for all contract tests that need it."""

from dataclasses import dataclass
from typing import Any

from twinmail.config import Config


@dataclass(frozen=True)
class Deployed:
    """A stack on LocalStack, and the session to look at it."""

    config: Config
    session: Any
