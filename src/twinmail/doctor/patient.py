"""The system that is looked at: its configuration, and the ways to its parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from twinmail.config import Config
from twinmail.secret_store import SecretStore
from twinmail.server_page import Page


@dataclass(frozen=True)
class Endpoint:
    """Where a server is reached from outside.

    Attributes:
        name: what its certificate must be for.
        ports: TCP, by what they are for.
        tls: those of the ports where a certificate is shown at once.
    """

    host: str
    name: str
    ports: Mapping[str, int]
    tls: frozenset[str]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Patient:
    """A system.

    Attributes:
        client: makes the boto3 client of a service.
        local: whether it is the one on this machine, which has neither names nor an account at AWS.
        pages: the ways to the servers' syncers, by server.
        endpoints: by server.
        store: the operator's secrets; None for the local system, which keeps its own.
        images: by server, asks in what its containers are not the pinned images.
        resolver: makes somebody who asks name servers (`twinmail.dns.check.Asker`).
        changes: asks what a deployment of the cloud would change.
        alone: the one server that is looked at; empty: all.
        month: asks for what a month costs, in dollars.
        authority: file with the authority that servers' certificates come from; None: the usual ones.
    """

    config: Config
    client: Callable[[str], Any]
    local: bool
    pages: Mapping[str, Page]
    endpoints: Mapping[str, Endpoint]
    store: SecretStore | None = None
    images: Mapping[str, Callable[[], Sequence[str]]] = field(default_factory=dict)
    resolver: Callable[[], Any] | None = None
    changes: Callable[[], Sequence[str]] | None = None
    month: Callable[[], float] | None = None
    authority: str | None = None
    now: Callable[[], datetime] = _now
    alone: str = ""

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers that are looked at."""
        return (self.alone,) if self.alone else tuple(self.config.servers)

    def at(self, server: str) -> "Patient":
        """This system, as far as it is about *server*."""
        return replace(
            self,
            alone=server,
            endpoints={name: one for name, one in self.endpoints.items() if name == server},
            images={name: one for name, one in self.images.items() if name == server},
        )
