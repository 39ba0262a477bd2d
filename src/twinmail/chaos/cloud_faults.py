"""Faults of the cloud: of functions and events inside LocalStack, and of services as their clients see them.

Names are in the code's own terms. ``function-*``, ``events-*``, ``arrivals-*`` and ``announcements-*`` happen
in LocalStack (see `twinmail_localstack.faults`), the others in proxies before it.
"""

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twinmail.chaos.proxy import Cut, Proxy
from twinmail.chaos.proxy_rule import Effect, Rule
from twinmail.errors import TransientError

FUNCTION = "function"
"""The proxy between the functions and LocalStack; the others are named after their container."""

OPTIONS = ("--faults",)
"""With which LocalStack has its points; add ``--function-endpoint`` and the URL of the functions' proxy."""

_CONTROL = "/_twinmail/faults"
_SECONDS = 30.0

_SHARE = 0.25
"""Of requests, invocations and events that meet a fault while it is there: so many that retries do, too."""

_POINTS: Mapping[str, Mapping[str, Any]] = {
    # A function takes some 0.1 s; drawn from more, most moments would come too late.
    "function-killed": {"seconds": 0.15, "probability": 0.5},
    "function-timed-out": {"seconds": 0.15, "probability": 0.5},
    "function-out-of-memory": {"seconds": 0.15, "probability": 0.5},
    "function-cold": {"probability": 1.0},
    "function-throttled": {},
    "events-dropped": {},
    "events-duplicated": {"seconds": 3.0},
    "events-delayed": {"seconds": 8.0},
    "events-reordered": {"seconds": 3.0, "probability": 1.0},
    "arrivals-dropped": {},
    "arrivals-duplicated": {"seconds": 3.0},
    "arrivals-delayed": {"seconds": 8.0},
    "arrivals-reordered": {"seconds": 3.0, "probability": 1.0},
    "announcements-dropped": {},
    "announcements-duplicated": {"seconds": 3.0},
    "announcements-delayed": {"seconds": 8.0},
    "announcements-reordered": {"seconds": 3.0, "probability": 1.0},
}

_TROUBLE = {
    "500": Effect.ERROR,
    "503": Effect.UNAVAILABLE,
    "slow": Effect.SLOW,
    "reset": Effect.RESET,
    "answer-lost": Effect.LOST,
    "answer-500": Effect.ERROR_AFTER,
    "truncated": Effect.TRUNCATED,
}
_SERVICES = ("s3", "sqs", "sns", "dynamodb")

RULES = (
    *(
        Rule(f"{service}-{trouble}", effect, service, probability=_SHARE, seconds=2.0)
        for service in _SERVICES
        for trouble, effect in _TROUBLE.items()
    ),
    # Between the claim, which fixes the name of the entry, and the entry: others overtake it.
    Rule("manifest-late", Effect.SLOW, "s3", "PutObject", "*/manifest/*", probability=_SHARE, seconds=8.0),
)


class System(Protocol):
    """What of the running system these faults need.

    Attributes:
        endpoint: URL of LocalStack itself.
        proxies: those before it: `FUNCTION`, ``edge``, and one for each syncer (``primary-syncer``).
        seed: of the run.
    """

    @property
    def endpoint(self) -> str: ...
    @property
    def proxies(self) -> Mapping[str, Proxy]: ...
    @property
    def seed(self) -> int: ...


class NotSwitched(TransientError):
    """LocalStack did not take a fault."""


@dataclass
class Point:
    """A fault inside LocalStack.

    Attributes:
        options: see `twinmail_localstack.faults.Options`.
        happened: how often it did while it could, but for what a LocalStack that was killed had counted.
    """

    name: str
    endpoint: str
    options: Mapping[str, Any]
    happened: int = 0
    _before: int = 0

    def begin(self) -> None:
        """Let it happen.

        Raises:
            NotSwitched: transient; LocalStack is not there, or was not started with `OPTIONS`.
        """
        ask(self.endpoint, "PUT", self.name, self.options)
        self._before = self._count()

    def end(self) -> None:
        """Let it happen no more, and what is held back go on its way.

        Raises:
            NotSwitched: transient.
        """
        try:
            ask(self.endpoint, "DELETE", self.name)
        except NotSwitched as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                # It is not running, and will have no faults when it is.
                return
            raise
        count = self._count()
        # A LocalStack that was started anew begins to count anew.
        self.happened += count - self._before if count >= self._before else count
        self._before = count

    def _count(self) -> int:
        return int(json.loads(ask(self.endpoint, "GET"))["happened"].get(self.name, 0))


@dataclass(frozen=True)
class Trouble:
    """A service in trouble, for every client of it that has a proxy."""

    name: str
    rule: Rule
    proxies: Sequence[Proxy]

    def begin(self) -> None:
        """Put the rule in force."""
        for proxy in self.proxies:
            proxy.add(replace(self.rule, name=self.name))

    def end(self) -> None:
        """End it."""
        for proxy in self.proxies:
            proxy.remove(self.name)

    @property
    def happened(self) -> int:
        """How many requests met it."""
        return sum(proxy.counts.get(self.name, 0) for proxy in self.proxies)


@dataclass(frozen=True)
class NetworkCut:
    """One client's network, cut for a while."""

    name: str
    proxy: Proxy
    how: Cut

    def begin(self) -> None:
        """Cut it."""
        self.proxy.cut(self.how)

    def end(self) -> None:
        """Mend it."""
        self.proxy.mend()

    @property
    def happened(self) -> int:
        """How many connections and requests met it."""
        return self.proxy.counts.get(self.how.value, 0)


CloudFault = Point | Trouble | NetworkCut


def ask(endpoint: str, method: str, name: str = "", options: Mapping[str, Any] | None = None) -> bytes:
    """Ask LocalStack's control of faults; return its answer.

    Raises:
        NotSwitched: transient.
    """
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://").rstrip("/"), timeout=_SECONDS)
    path = f"{_CONTROL}/{name}" if name else _CONTROL
    try:
        connection.request(method, path, json.dumps(dict(options)) if options is not None else None)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotSwitched(f"{endpoint}{path}: {error}; is LocalStack running?") from error
    finally:
        connection.close()
    if answer.status not in (200, 204):
        raise NotSwitched(
            f"{endpoint}{path}: expected 200 or 204, got {answer.status}; "
            f"LocalStack has this only with {' '.join(OPTIONS)}"
        )
    return body


def faults(system: System) -> list[CloudFault]:
    """Every fault of the cloud, for *system*."""
    points = [
        Point(name, system.endpoint, {"seed": f"{system.seed}/{name}", "probability": _SHARE, **options})
        for name, options in _POINTS.items()
    ]
    everybody = tuple(system.proxies.values())
    troubles = [Trouble(rule.name, rule, everybody) for rule in RULES]
    cuts = [
        NetworkCut(f"network-{kind}-{name.removesuffix('-syncer')}", proxy, how)
        for name, proxy in system.proxies.items()
        if name.endswith("-syncer")
        for kind, how in (("cut", Cut.RESET), ("silent", Cut.SILENT))
    ]
    return [*points, *troubles, *cuts]
