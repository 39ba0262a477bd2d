"""A server in a Kubernetes cluster and the secrets that are made for it, as one plan."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twinmail.config import Config
from twinmail.deploy import primary, server_files
from twinmail.deploy.kustomization import Request
from twinmail.oci.destination import Destination
from twinmail.secret_store import SecretStore

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What would change.

    Attributes:
        secrets: names of those that are made here.
        namespace: of the cluster.
        difference: as `primary.plan` says it.
    """

    secrets: tuple[str, ...]
    namespace: str
    difference: str

    def lines(self) -> tuple[str, ...]:
        """One line a change, or the lines of a diff; none if everything is as it should be."""
        return (*(f"make the secret {one}" for one in self.secrets), *self.difference.splitlines())


@dataclass(frozen=True)
class PrimaryPart:
    """The server *server*.

    Attributes:
        text: of ``twinmail.toml``, from which `config` was read.
        kubectl: the program.
        destination: where the cluster finds the images.
    """

    root: Path
    config: Config
    text: str
    server: str
    store: SecretStore
    kubectl: Path
    destination: Destination

    @property
    def name(self) -> str:
        """For messages."""
        return f"primary: server {self.server}"

    def plan(self, keep: bool = False) -> Plan:
        """What would change; nothing is changed, and no secret is made.

        Raises:
            TwinmailError: see `primary.request` and `primary.plan`.
        """
        wanted = self._request()
        cluster = primary.cluster(wanted, self.kubectl)
        secrets = server_files.unmade_secrets(self.store, self.config, self.server)
        return Plan(secrets, cluster.namespace, primary.plan(wanted, self.root, cluster))

    def apply(self, plan: Plan, say: Say) -> None:
        """Do what *plan* says, and return when the pod is ready and runs the pinned images.

        Raises:
            TwinmailError: see `primary.request` and `primary.apply`; the same command goes on.
        """
        for name in server_files.make_secrets(self.store, self.config, self.server):
            say(f"made the secret {name}")
        wanted = self._request()
        primary.apply(wanted, self.root, primary.cluster(wanted, self.kubectl), say)

    def _request(self) -> Request:
        return primary.request(self.root, self.config, self.text, self.server, self.store, self.destination)
