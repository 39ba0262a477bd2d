"""Where a cluster takes its images from: whether it has those that are pinned, and how they come there.

The deployment is ``Recreate``: the old pod ends before the new one looks for its images. So whether they are
there is asked before anything is applied, and not afterwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twinmail.deploy import ssh_push
from twinmail.deploy.cluster import Cluster
from twinmail.deploy.pins import Pin
from twinmail.errors import PermanentError
from twinmail.oci.destination import Destination
from twinmail.oci.push import ImagePush, Progress
from twinmail.oci.registry import Registry

Say = Callable[[str], None]


class ImagesMissing(PermanentError):
    """The cluster would not find its images, or nobody knows whether it would; nothing was applied."""


@dataclass(frozen=True)
class Missing:
    """An image that is not where it should be.

    Attributes:
        where: a node, a registry, or the cluster.
    """

    pin: Pin
    where: str

    @property
    def image(self) -> str:
        """Its name without a folder: ``dovecot``."""
        return self.pin.name.rpartition("/")[2]


class Source(Protocol):
    """A place where the cluster finds images."""

    def missing(self, pins: Sequence[Pin]) -> tuple[Missing, ...]:
        """Those of *pins* that are not there, as far as can be known."""

    def line(self, one: Missing) -> str:
        """What a plan says of *one*."""

    def bring(self, images: Callable[[], Sequence[ImagePush]], missing: Sequence[Missing], say: Say) -> None:
        """Let what is *missing* be there; *images* builds them.

        Raises:
            ImagesMissing: that cannot be done from here.
        """

    def remedy(self, missing: Sequence[Missing]) -> str:
        """The commands that bring what is *missing*, for a person."""


def ensure(
    source: Source, pins: Sequence[Pin], images: Callable[[], Sequence[ImagePush]], say: Say
) -> tuple[Missing, ...]:
    """Have all of *pins* in *source*, and look again; return what was missing.

    Raises:
        ImagesMissing: some are still not there.
        TwinmailError: see `ssh_push.push` and `Registry.request`.
    """
    found = source.missing(pins)
    if not found:
        return ()
    source.bring(images, found, say)
    if left := source.missing(pins):
        raise ImagesMissing(_told(left, source.remedy(left)))
    return found


@dataclass(frozen=True)
class OnNodes:
    """Images that SSH brings to the engine of each of *hosts*.

    Attributes:
        platform: of the nodes.
        ssh: the program, and options for it.
    """

    hosts: tuple[str, ...]
    platform: str
    progress: Progress
    ssh: tuple[str, ...] = ("ssh",)

    def missing(self, pins: Sequence[Pin]) -> tuple[Missing, ...]:
        """See `Source`."""
        found = []
        for host in self.hosts:
            lacking = ssh_push.lacking(host, [one.reference for one in pins], self.platform, self.ssh)
            found += [Missing(one, host) for one in pins if one.reference in lacking]
        return tuple(found)

    def line(self, one: Missing) -> str:
        """See `Source`."""
        return f"bring image {one.image} to {one.where}"

    def bring(self, images: Callable[[], Sequence[ImagePush]], missing: Sequence[Missing], say: Say) -> None:
        """See `Source`."""
        built = images()
        for host in dict.fromkeys(one.where for one in missing):
            say(f"bringing images to {host}")
            # All of them, though layers that are there are not sent: what is not named is cleared away.
            ssh_push.push(host, built, self.progress, say, ssh=self.ssh)

    def remedy(self, missing: Sequence[Missing]) -> str:
        """See `Source`."""
        hosts = dict.fromkeys(one.where for one in missing)
        return "./inv push " + " ".join(f"--over-ssh {host}" for host in hosts)


@dataclass(frozen=True)
class InRegistry:
    """Images in a registry from which the cluster pulls.

    Attributes:
        send: pushes images there.
    """

    registry: Registry
    send: Callable[[Sequence[ImagePush]], object]

    @property
    def _destination(self) -> Destination:
        return self.registry.destination

    def missing(self, pins: Sequence[Pin]) -> tuple[Missing, ...]:
        """See `Source`."""
        return tuple(
            Missing(one, str(self._destination))
            for one in pins
            if self.registry.manifest(one.repository.partition("/")[2], one.digest) != one.digest
        )

    def line(self, one: Missing) -> str:
        """See `Source`."""
        return f"push image {one.image} to {one.where}"

    def bring(self, images: Callable[[], Sequence[ImagePush]], missing: Sequence[Missing], say: Say) -> None:
        """See `Source`."""
        say(f"pushing images to {self._destination}")
        self.send(images())

    def remedy(self, missing: Sequence[Missing]) -> str:
        """See `Source`."""
        return f"./inv push --registry {self._destination}"


@dataclass(frozen=True)
class Unknown:
    """Images of which nothing says how they come to the cluster: known are those that it runs already.

    Attributes:
        running: what the cluster's pods are made of, by digest.
        trusted: whether the operator has said that they are there.
    """

    running: Callable[[], frozenset[str]]
    trusted: bool = False

    def missing(self, pins: Sequence[Pin]) -> tuple[Missing, ...]:
        """See `Source`."""
        if self.trusted:
            return ()
        known = self.running()
        return tuple(Missing(one, "the cluster") for one in pins if one.digest not in known)

    def line(self, one: Missing) -> str:
        """See `Source`."""
        return f"image {one.image}: not known whether the cluster has {one.pin.digest}"

    def bring(self, images: Callable[[], Sequence[ImagePush]], missing: Sequence[Missing], say: Say) -> None:
        """See `Source`."""
        raise ImagesMissing(_told(missing, self.remedy(missing)))

    def remedy(self, missing: Sequence[Missing]) -> str:
        """See `Source`."""
        return (
            "say where it finds them, with nodes or registry in the server's table kubernetes of "
            "twinmail.toml; or bring them there (./inv push --over-ssh USER@NODE), and say --images-are-there"
        )


def in_pods(place: Cluster, selector: str) -> frozenset[str]:
    """Digests of all images that containers of the pods with *selector* have been made from.

    Raises:
        ClusterError, ClusterUnavailable: see `Cluster.run`.
    """
    pods: Any = place.json("get", "pods", f"--selector={selector}") or {"items": []}
    states = [one for pod in pods["items"] for one in pod.get("status", {}).get("containerStatuses") or ()]
    # Empty until the image is there (Kubernetes API v1, ContainerStatus.imageID).
    return frozenset(one["imageID"].rpartition("@")[2] for one in states if one.get("imageID"))


def _told(missing: Sequence[Missing], remedy: str) -> str:
    lines = "\n".join(f"  {one.where}: {one.image} is not known there: {one.pin.digest}" for one in missing)
    return (
        "the new pod would wait for images after the old one has ended; nothing was applied:\n"
        f"{lines}\n{remedy}"
    )
