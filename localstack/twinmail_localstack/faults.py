"""Points at which LocalStack does what a cloud in trouble does, for chaos runs: with ``--faults`` alone.

====================================  ==================================================================
``GET /_twinmail/faults``             ``{"happened": {name: times}, "active": [name], "held": n}``
``PUT /_twinmail/faults/<name>``      begin: ``{"seed", "probability", "count", "seconds"}``; 204
``DELETE /_twinmail/faults/<name>``   end, and let go of what is held back; 204, also a second time
====================================  ==================================================================
"""

import itertools
import json
import logging
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from localstack.http import Resource, Response
from localstack.runtime import hooks

from twinmail_localstack import settings

LOG = logging.getLogger(__name__)

FUNCTION_KILLED = "function-killed"
FUNCTION_TIMED_OUT = "function-timed-out"
FUNCTION_OUT_OF_MEMORY = "function-out-of-memory"
FUNCTION_COLD = "function-cold"
FUNCTION_THROTTLED = "function-throttled"
FUNCTION = (FUNCTION_KILLED, FUNCTION_TIMED_OUT, FUNCTION_OUT_OF_MEMORY, FUNCTION_COLD)

EVENTS, ARRIVALS, ANNOUNCEMENTS = "events", "arrivals", "announcements"
"""What can go missing on its way: SES's invocations of the function, its notices of what it stored, and the
notices of new entries to the servers' queues."""

DROPPED, DUPLICATED, DELAYED, REORDERED = "dropped", "duplicated", "delayed", "reordered"

NAMES = (
    *FUNCTION,
    FUNCTION_THROTTLED,
    *(
        f"{stream}-{fate}"
        for stream in (EVENTS, ARRIVALS, ANNOUNCEMENTS)
        for fate in (DROPPED, DUPLICATED, DELAYED, REORDERED)
    ),
)

REORDERED_AT_ONCE = 5
"""So many are held back, then let go from the last to the first."""


@dataclass(frozen=True)
class Options:
    """How often a fault happens.

    Attributes:
        seed: of its own sequence of random numbers.
        probability: share of the chances that are taken; each is until the fault has happened once, so that
            one that is active for a short time has an effect.
        count: how many are at most; None is no limit.
        seconds: the longest time that is drawn: until a function ends, or something is let go.
    """

    seed: str
    probability: float = 1.0
    count: int | None = None
    seconds: float = 1.0


class _Active:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.random = random.Random(options.seed)
        self.left = options.count
        self.sure = options.probability > 0


class Faults:
    """Which faults are active, how often each happened, and what is held back."""

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._active: dict[str, _Active] = {}
        self._happened: Counter[str] = Counter()
        self._held: defaultdict[str, dict[int, Callable[[], None]]] = defaultdict(dict)
        self._numbers = itertools.count()

    def begin(self, name: str, options: Options) -> None:
        """Let *name* happen from now on."""
        with self._guard:
            self._active[name] = _Active(options)

    def end(self, name: str) -> None:
        """Let *name* happen no more, and go what it holds back."""
        with self._guard:
            self._active.pop(name, None)
        self._release(name)

    def status(self) -> dict[str, Any]:
        """What the control path answers."""
        with self._guard:
            held = sum(len(one) for one in self._held.values())
            return {"happened": dict(self._happened), "active": sorted(self._active), "held": held}

    def draw(self, name: str) -> float | None:
        """Whether *name* is to happen now: None, or seconds between nothing and its longest time."""
        with self._guard:
            active = self._active.get(name)
            if active is None:
                return None
            chance = active.random.random() < active.options.probability
            if active.left == 0 or not (chance or active.sure):
                return None
            if active.left is not None:
                active.left -= 1
            return active.random.uniform(0, active.options.seconds)

    def happened(self, name: str) -> None:
        """Count it."""
        self.settle(name, True)

    def settle(self, name: str, hit: bool) -> None:
        """Count what was drawn; if it hit nothing, which had ended before, there is another chance."""
        with self._guard:
            active = self._active.get(name)
            if hit:
                self._happened[name] += 1
                if active is not None:
                    active.sure = False
            elif active is not None and active.left is not None:
                active.left += 1

    def pass_on(self, stream: str, deliver: Callable[[], None]) -> None:
        """Deliver something of *stream*: at once, or as the active faults have it."""
        if self.draw(f"{stream}-{DROPPED}") is not None:
            self.happened(f"{stream}-{DROPPED}")
            return
        if (seconds := self.draw(f"{stream}-{DUPLICATED}")) is not None:
            self.happened(f"{stream}-{DUPLICATED}")
            self._hold(f"{stream}-{DUPLICATED}", deliver, seconds)
        if (seconds := self.draw(f"{stream}-{DELAYED}")) is not None:
            self.happened(f"{stream}-{DELAYED}")
            self._hold(f"{stream}-{DELAYED}", deliver, seconds)
        elif (seconds := self.draw(f"{stream}-{REORDERED}")) is not None:
            name = f"{stream}-{REORDERED}"
            self.happened(name)
            if self._hold(name, deliver, None) >= REORDERED_AT_ONCE:
                self._release(name)
            else:
                # Nobody may come after it.
                _later(seconds, lambda: self._release(name))
        else:
            deliver()

    def _hold(self, name: str, deliver: Callable[[], None], seconds: float | None) -> int:
        """Keep *deliver* until its time or the end of the fault; return how many are kept now."""
        with self._guard:
            number = next(self._numbers)
            self._held[name][number] = deliver
            size = len(self._held[name])
        if seconds is not None:
            _later(seconds, lambda: self._let_go(name, number))
        return size

    def _release(self, name: str) -> None:
        with self._guard:
            numbers = sorted(self._held[name], reverse=True)
        for number in numbers:
            self._let_go(name, number)

    def _let_go(self, name: str, number: int) -> None:
        with self._guard:
            deliver = self._held[name].pop(number, None)
        if deliver is not None:
            try:
                deliver()
            except Exception:
                # In a thread of its own nobody would hear of it.
                LOG.exception("%s: what was held back could not be delivered", name)


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


_faults = Faults()


def faults() -> Faults:
    """Those of this process."""
    return _faults


class All:
    """What happens, and what happened."""

    def on_get(self, request: Any) -> Response:
        """All of it."""
        return Response(json.dumps(faults().status()), mimetype="application/json")


class One:
    """One fault."""

    def on_put(self, request: Any, name: str) -> Response:
        """Begin it."""
        if name not in NAMES:
            return Response(f"{name}: expected one of {', '.join(NAMES)}", status=404)
        faults().begin(name, Options(**json.loads(request.data)))
        return Response(status=204)

    def on_delete(self, request: Any, name: str) -> Response:
        """End it."""
        faults().end(name)
        return Response(status=204)


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def take_faults() -> None:
    """Add the points and their control, if that is wanted."""
    if settings.current().faults:
        from localstack.services.edge import ROUTER

        from twinmail_localstack import fault_points

        ROUTER.add(Resource("/_twinmail/faults", All()))
        ROUTER.add(Resource("/_twinmail/faults/<name>", One()))
        fault_points.add()
