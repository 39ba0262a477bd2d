"""Images into a registry: what it has is not sent, and what one repository has is not sent for another.

Everything goes by digest, blobs before the manifests that name them and manifests before the index over the
platforms, so whoever sees a manifest can have all of it. The index gets a tag made of its own digest: many
registries throw away what has none, and a tag that never moves pins as well as the digest.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from twinmail.errors import PermanentError
from twinmail.oci import layout
from twinmail.oci.registry import Registry
from twinmail.oci.registry_error import RegistryError
from twinmail.oci.upload import Upload
from twinmail.oci.upload_sessions import UploadSessions

_TAG_CHARACTERS = 12


class Progress(Protocol):
    """What is told of a push."""

    def start(self, files: int, octets: int) -> None:
        """So many blobs are to be sent."""

    def advance(self, name: str, octets: int) -> None:
        """More of the blob *name* is there."""


@dataclass(frozen=True)
class Document:
    """A manifest or index, as stored."""

    digest: str
    media_type: str
    octets: bytes


@dataclass(frozen=True)
class ImagePush:
    """One image of an image layout.

    Attributes:
        manifests: by platform.
        blobs: sizes by digest: configs and layers of all platforms.
    """

    name: str
    folder: Path
    index: Document
    manifests: Mapping[str, Document]
    blobs: Mapping[str, int]

    @property
    def tag(self) -> str:
        """The tag of the index."""
        return self.index.digest.removeprefix("sha256:")[:_TAG_CHARACTERS]

    def file(self, digest: str) -> Path:
        """The blob with *digest*."""
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


@dataclass
class PushReport:
    """What a push did.

    Attributes:
        images: by image: digest of its ``index``, ``tag``, and digests of its ``platforms``' manifests.
        uploaded: blobs sent.
        octets: sent, without what an earlier push had begun.
        resumed: octets that an earlier push had begun.
        mounted: blobs taken over from another repository.
        present: blobs that were there.
        manifests: manifests, indexes and tags written.
    """

    destination: str
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploaded: int = 0
    octets: int = 0
    resumed: int = 0
    mounted: int = 0
    present: int = 0
    manifests: int = 0

    def to_json(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {**vars(self)}


def plan(name: str, folder: Path, reference: str = layout.LATEST) -> ImagePush:
    """What the layout at *folder* has of *reference*.

    Raises:
        PermanentError: no such image has been built there.
    """
    try:
        tops = json.loads((folder / "index.json").read_bytes())["manifests"]
        top = next(one for one in tops if one["annotations"][layout.REFERENCE] == reference)
        index = Document(top["digest"], top["mediaType"], layout.read(folder, top["digest"]))
        manifests: dict[str, Document] = {}
        blobs: dict[str, int] = {}
        for one in json.loads(index.octets)["manifests"]:
            platform = f"{one['platform']['os']}/{one['platform']['architecture']}"
            manifests[platform] = Document(
                one["digest"], one["mediaType"], layout.read(folder, one["digest"])
            )
            parts = json.loads(manifests[platform].octets)
            blobs |= {part["digest"]: part["size"] for part in (parts["config"], *parts["layers"])}
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise PermanentError(f"{folder}: no image {reference} ({error!r}); build it: ./inv build") from error
    return ImagePush(name, folder, index, manifests, blobs)


def push(
    images: list[ImagePush],
    registry: Registry,
    sessions: UploadSessions,
    progress: Progress,
    pause: Callable[[], None] = lambda: None,
) -> PushReport:
    """Have all of *images* in *registry*.

    Args:
        pause: called between two pieces; may raise to stop there.

    Raises:
        RegistryUnavailable: the same again sends only what is missing.
        RegistryError: the registry refuses.
    """
    report = PushReport(str(registry.destination))
    repositories = {one.name: registry.destination.repository(one.name) for one in images}
    holders: dict[str, str] = {}
    missing: list[tuple[ImagePush, str]] = []
    for image in images:
        for digest in image.blobs:
            pause()
            if registry.has_blob(repositories[image.name], digest):
                holders.setdefault(digest, repositories[image.name])
                report.present += 1
            else:
                missing.append((image, digest))
    sizes = {digest: image.blobs[digest] for image, digest in missing if digest not in holders}
    progress.start(len(sizes), sum(sizes.values()))
    for image, digest in missing:
        pause()
        _blob(image, digest, repositories[image.name], registry, sessions, progress, pause, holders, report)
        holders.setdefault(digest, repositories[image.name])
    for image in images:
        _documents(image, repositories[image.name], registry, report)
        report.images[image.name] = {
            "repository": f"{registry.destination.host}/{repositories[image.name]}",
            "index": image.index.digest,
            "tag": image.tag,
            "platforms": {platform: one.digest for platform, one in image.manifests.items()},
        }
    return report


def _blob(
    image: ImagePush,
    digest: str,
    repository: str,
    registry: Registry,
    sessions: UploadSessions,
    progress: Progress,
    pause: Callable[[], None],
    holders: Mapping[str, str],
    report: PushReport,
) -> None:
    location = ""
    if digest in holders:
        done, location = registry.mount(repository, digest, holders[digest])
        if done:
            report.mounted += 1
            return
    upload = Upload(
        registry,
        repository,
        digest,
        image.file(digest),
        sessions,
        lambda octets: progress.advance(digest, octets),
        pause,
    )
    kept = upload.run(location)
    report.uploaded += 1
    report.resumed += kept
    report.octets += image.blobs[digest] - kept


def _documents(image: ImagePush, repository: str, registry: Registry, report: PushReport) -> None:
    wanted = [(one.digest, one) for one in (*image.manifests.values(), image.index)]
    for reference, document in [*wanted, (image.tag, image.index)]:
        if registry.manifest(repository, reference) == document.digest:
            continue
        registry.put_manifest(repository, reference, document.media_type, document.octets)
        report.manifests += 1
        if (got := registry.manifest(repository, reference)) != document.digest:
            raise RegistryError(
                f"{registry.destination.host}/{repository}: expected {reference} to be {document.digest}, "
                f"got {got}: the registry changes what it is given, so no digest can be pinned there"
            )
