"""The health check of Route 53 by which a fail-over knows whether the first server is there.

It asks for the server by name: an address of a health check that has none cannot be added later, and a name
follows the server when it moves. Source: Route 53 API Reference, CreateHealthCheck and UpdateHealthCheck.
"""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from twinmail.client_profile.site import IMAPS
from twinmail.config import Config
from twinmail.dns.wanted import FailOver

_INTERVAL = 30
_FAILURES = 3


@dataclass(frozen=True)
class HealthCheck:
    """A health check that was made for this configuration.

    Attributes:
        version: of Route 53; an update names the one it is based on.
        document: its HealthCheckConfig.
    """

    id: str
    version: int
    document: dict[str, Any]


def prefix(config: Config) -> str:
    """Begins the caller reference of every health check of *config*; the rest makes it unique.

    Route 53 refuses the reference of a health check that was deleted, so it cannot be the same for ever.
    """
    return f"twinmail-{hashlib.sha256(config.stack.encode()).hexdigest()[:16]}-"


def wanted(failover: FailOver) -> dict[str, Any]:
    """The HealthCheckConfig: whether IMAPS of the first server takes connections."""
    return {
        "Type": "TCP",
        "FullyQualifiedDomainName": failover.hosts[0],
        "Port": IMAPS,
        "RequestInterval": _INTERVAL,
        "FailureThreshold": _FAILURES,
    }


def read(client: Any, config: Config) -> tuple[HealthCheck, ...]:
    """Those of *config*; there may be several, if two runs made one at once."""
    return tuple(
        HealthCheck(one["Id"], one["HealthCheckVersion"], one["HealthCheckConfig"])
        for page in client.get_paginator("list_health_checks").paginate()
        for one in page["HealthChecks"]
        if one["CallerReference"].startswith(prefix(config))
    )


def suits(check: HealthCheck, want: dict[str, Any]) -> bool:
    """Whether *check* can be what *want* says, by an update at most: its type and interval are for ever."""
    return all(check.document.get(key) == want[key] for key in ("Type", "RequestInterval"))


def differs(check: HealthCheck, want: dict[str, Any]) -> bool:
    """Whether *check* is something else than *want*."""
    return any(check.document.get(key) != value for key, value in want.items())


def create(client: Any, config: Config, want: dict[str, Any]) -> str:
    """Make it; its id."""
    reference = f"{prefix(config)}{uuid.uuid4().hex[:12]}"
    made = client.create_health_check(CallerReference=reference, HealthCheckConfig=want)
    return str(made["HealthCheck"]["Id"])


def update(client: Any, check: HealthCheck, want: dict[str, Any]) -> None:
    """Make *check* be what *want* says."""
    client.update_health_check(
        HealthCheckId=check.id,
        HealthCheckVersion=check.version,
        FullyQualifiedDomainName=want["FullyQualifiedDomainName"],
        Port=want["Port"],
        FailureThreshold=want["FailureThreshold"],
    )
