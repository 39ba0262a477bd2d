"""A server in a Kubernetes cluster and the secrets that are made for it, as one plan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmail.config import Config
from twinmail.deploy import cluster_images, primary, server_files
from twinmail.deploy.cluster_images import Source
from twinmail.deploy.kustomization import Request
from twinmail.oci.destination import Destination
from twinmail.oci.push import ImagePush
from twinmail.secret_store import SecretStore

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What would change.

    Attributes:
        secrets: names of those that are made here.
        images: what is said of those that are not known to be where the cluster gets them.
        namespace: of the cluster.
        difference: as `primary.plan` says it.
    """

    secrets: tuple[str, ...]
    images: tuple[str, ...]
    namespace: str
    difference: str

    def lines(self) -> tuple[str, ...]:
        """One line a change, or the lines of a diff; none if everything is as it should be."""
        made = (f"make the secret {one}" for one in self.secrets)
        return (*made, *self.images, *self.difference.splitlines())


@dataclass(frozen=True)
class PrimaryPart:
    """The server *server*.

    Attributes:
        text: of ``twinmail.toml``, from which `config` was read.
        kubectl: the program.
        destination: what the cluster calls the images by.
        source: where it finds them.
        build: called for the images if they are not there.
    """

    root: Path
    config: Config
    text: str
    server: str
    store: SecretStore
    kubectl: Path
    destination: Destination
    source: Source
    build: Callable[[], Sequence[ImagePush]]

    @property
    def name(self) -> str:
        """For messages."""
        return f"primary: server {self.server}"

    def plan(self, keep: bool = False) -> Plan:
        """What would change; nothing is changed, and no secret is made.

        Raises:
            TwinmailError: see `primary.request`, `primary.plan` and `cluster_images`.
        """
        wanted = self._request()
        cluster = primary.cluster(wanted, self.kubectl)
        secrets = server_files.unmade_secrets(self.store, self.config, self.server)
        difference = primary.plan(wanted, self.root, cluster)
        images = tuple(self.source.line(one) for one in self.source.missing(wanted.images))
        return Plan(secrets, images, cluster.namespace, difference)

    def apply(self, plan: Plan, say: Say) -> None:
        """Do what *plan* says, and return when the pod is ready and runs the pinned images.

        Raises:
            ImagesMissing: the cluster would not find its images; nothing has changed there.
            TwinmailError: see `primary.request` and `primary.apply`; the same command goes on.
        """
        # First of all: the old pod ends before the new one looks for them.
        cluster_images.ensure(self.source, self._request().images, self.build, say)
        for name in server_files.make_secrets(self.store, self.config, self.server):
            say(f"made the secret {name}")
        wanted = self._request()
        primary.apply(wanted, self.root, primary.cluster(wanted, self.kubectl), say)

    def _request(self) -> Request:
        return primary.request(self.root, self.config, self.text, self.server, self.store, self.destination)
