"""Which images a cluster runs: Kustomize's ``images:``, from ``images/digests.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmail.deploy import template
from twinmail.deploy.ssh_push import OVER_SSH
from twinmail.errors import PermanentError
from twinmail.oci.destination import Destination
from twinmail.oci.digests import FILE, Digests
from twinmail.oci.spec import PLATFORMS

IMAGES = ("dovecot", "syncer")
"""What the pod consists of."""

PLACE = Path("k8s") / "kustomize" / "pins"


@dataclass(frozen=True)
class Pin:
    """One image of the pod.

    Attributes:
        name: what the base calls it.
        repository: what the container engine calls it, without digest.
        digest: of the manifest for the platform.
    """

    name: str
    repository: str
    digest: str

    @property
    def reference(self) -> str:
        """What the rendered pod names."""
        return f"{self.repository}@{self.digest}"


def pins(manifests: Mapping[str, str], destination: Destination = OVER_SSH) -> tuple[Pin, ...]:
    """The pins for digests of *manifests* by image, pulled from *destination*."""
    return tuple(
        Pin(
            name=f"twinmail/{image}",
            repository=destination.reference(image, manifests[image]).partition("@")[0],
            digest=manifests[image],
        )
        for image in IMAGES
    )


def pinned(digests: Digests, platform: str) -> dict[str, str]:
    """Digests of manifests by image, as committed for *platform*.

    Raises:
        PermanentError: an image is not pinned for it.
    """
    try:
        return {image: digests.images[image][platform]["manifest"] for image in IMAGES}
    except KeyError as error:
        raise PermanentError(
            f'{FILE}: {error.args[0]} is not pinned for {platform}; run "./inv build --pin" and commit it'
        ) from error


def text(entries: Sequence[Pin]) -> str:
    """A Kustomize component that pins *entries*."""
    return template.render("pins.yaml.j2", images=entries)


def files(digests: Digests) -> dict[Path, str]:
    """The committed components, by path from the top of the checkout: one a platform."""
    return {
        PLACE / platform.partition("/")[2] / "kustomization.yaml": text(pins(pinned(digests, platform)))
        for platform in PLATFORMS
    }


def save(root: Path) -> list[Path]:
    """Write the components of the checkout at *root* after its pinned digests; return their paths."""
    written = files(Digests.load(root))
    for path, content in written.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, "utf-8")
    return list(written)
