"""Which requests meet which effect on their way through the proxy.

What can happen to a picked request (`Effect`) differs in what the service did and what the client knows:

=============  ==============================  =======================================
effect         the service                     the client
=============  ==============================  =======================================
ERROR          never saw it                    500
UNAVAILABLE    never saw it                    503 (``SlowDown`` of S3)
THROTTLED      never saw it                    429 or what the service has for it
SLOW           does it, later                  the answer, later
RESET          never saw it                    a connection that is reset
LOST           did it                          a connection that is reset
ERROR_AFTER    did it                          500
TRUNCATED      did it                          half of the answer's body, then a reset
=============  ==============================  =======================================
"""

import random
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase

from twinmail.errors import PermanentError


class Effect(Enum):
    """What happens to a request; see the module."""

    ERROR = auto()
    UNAVAILABLE = auto()
    THROTTLED = auto()
    SLOW = auto()
    RESET = auto()
    LOST = auto()
    ERROR_AFTER = auto()
    TRUNCATED = auto()


@dataclass(frozen=True)
class Rule:
    """Which requests meet which effect.

    Attributes:
        name: of the fault, as it is counted.
        service, operation: patterns (``s3``, ``Put*``); of a request whose operation is not known only ``*``.
        path: a pattern of the request's path and query.
        probability: share of these requests that are picked; the first one always is, so that a rule which is
            in force for a short time has an effect.
        count: how many are at most.
        seconds: how late `Effect.SLOW` is.
    """

    name: str
    effect: Effect
    service: str = "*"
    operation: str = "*"
    path: str = "*"
    probability: float = 1.0
    count: int | None = None
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise PermanentError(f"{self.name}: probability: expected 0 to 1, got {self.probability}")

    def covers(self, service: str, operation: str, path: str) -> bool:
        """Whether it is about such requests."""
        return (
            fnmatchcase(service, self.service)
            and fnmatchcase(operation, self.operation)
            and fnmatchcase(path, self.path)
        )


class Active:
    """A rule in force, and how far its random sequence is."""

    def __init__(self, rule: Rule, seed: str) -> None:
        self.rule = rule
        self._random = random.Random(seed)
        self._left = rule.count
        self._first = rule.probability > 0

    def picks(self) -> bool:
        """Whether the next request that it covers is one."""
        chance = self._random.random() < self.rule.probability
        if self._left == 0 or not (chance or self._first):
            return False
        self._first = False
        if self._left is not None:
            self._left -= 1
        return True
