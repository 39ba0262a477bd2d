"""OCI image layouts (OCI image spec 1.1): manifests, configs and indexes, and the folder that holds them.

``index.json`` names two references, ``latest`` and ``debug``; each is an index over the platforms. It is the
last file written and replaced atomically, so a reader sees the old image or the new one, whole.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from twinmail.oci import layer
from twinmail.oci.layer import Layer
from twinmail.oci.spec import ImageSpec

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
REFERENCE = "org.opencontainers.image.ref.name"

LATEST, DEBUG = "latest", "debug"


@dataclass(frozen=True)
class Blob:
    """A JSON document that is stored by its digest."""

    media_type: str
    octets: bytes

    @property
    def digest(self) -> str:
        """``sha256:…`` of the octets."""
        return f"sha256:{sha256(self.octets).hexdigest()}"

    def descriptor(self, **more: Any) -> dict[str, Any]:
        """How other documents refer to it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.octets), **more}


@dataclass(frozen=True)
class Image:
    """One image of one platform, as it is stored.

    Attributes:
        platform: ``linux/amd64``.
        layers: lowest first.
    """

    platform: str
    config: Blob
    manifest: Blob
    layers: tuple[Layer, ...]


def image(chain: Sequence[ImageSpec], platform: str, epoch: int, layers: Sequence[Layer]) -> Image:
    """Config and manifest of the last of *chain* (lowest base first) with *layers*."""
    system, architecture = platform.split("/")
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = _blob(
        CONFIG,
        {
            "created": created,
            "architecture": architecture,
            "os": system,
            "config": _execution(chain),
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
            "history": [{"created": created, "created_by": one.origin} for one in layers],
        },
    )
    manifest = _blob(
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [
                {"mediaType": layer.MEDIA_TYPE, "digest": one.digest, "size": one.size} for one in layers
            ],
        },
    )
    return Image(platform, config, manifest, tuple(layers))


def index(images: Sequence[Image]) -> Blob:
    """The index over the platforms of one reference."""
    manifests = []
    for one in sorted(images, key=lambda one: one.platform):
        system, architecture = one.platform.split("/")
        manifests.append(one.manifest.descriptor(platform={"os": system, "architecture": architecture}))
    return _blob(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})


def write(folder: Path, references: Mapping[str, Sequence[Image]], blobs: Path) -> None:
    """Write the layout of *references* to *folder*; layer blobs come from the folder *blobs*.

    What was there is replaced by one rename; blobs that only the old images had are removed after it.
    """
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True, exist_ok=True)
    _store(folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    used: set[str] = set()
    tops = []
    for reference, images in references.items():
        top = index(images)
        tops.append(top.descriptor(annotations={REFERENCE: reference}))
        for document in [top, *(blob for one in images for blob in (one.config, one.manifest))]:
            used.add(document.digest)
            _store(place / _hex(document.digest), document.octets)
        for one in (one for each in images for one in each.layers):
            used.add(one.digest)
            _share(blobs / _hex(one.digest), place / _hex(one.digest), one.size)
    final = _blob(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": tops})
    _store(folder / "index.json", final.octets)
    kept = {_hex(digest) for digest in used}
    for path in place.iterdir():
        if path.name not in kept:
            path.unlink(missing_ok=True)


def read(folder: Path, digest: str) -> bytes:
    """The blob with *digest* of the layout at *folder*."""
    return (folder / "blobs" / "sha256" / _hex(digest)).read_bytes()


def manifests(folder: Path) -> dict[str, dict[str, str]]:
    """Digests of the manifests in the layout at *folder*: by reference, by platform."""
    found: dict[str, dict[str, str]] = {}
    for top in json.loads((folder / "index.json").read_bytes())["manifests"]:
        platforms = json.loads(read(folder, top["digest"]))["manifests"]
        found[top["annotations"][REFERENCE]] = {
            f"{one['platform']['os']}/{one['platform']['architecture']}": one["digest"] for one in platforms
        }
    return found


def _execution(chain: Sequence[ImageSpec]) -> dict[str, Any]:
    """The ``config`` of the image config: what *chain*'s last image declares over what its bases declare."""
    result: dict[str, Any] = {}
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}
    for one in (spec.config for spec in chain):
        environment.update(one.env)
        labels.update(one.labels)
        if one.entrypoint:
            # As for `docker build`: another entrypoint makes the arguments of the one below meaningless.
            result["Entrypoint"] = list(one.entrypoint)
            result.pop("Cmd", None)
        if one.cmd:
            result["Cmd"] = list(one.cmd)
        if one.user:
            result["User"] = one.user
        if one.stop_signal:
            result["StopSignal"] = one.stop_signal
        result["WorkingDir"] = one.workdir
    if environment:
        result["Env"] = [f"{name}={value}" for name, value in sorted(environment.items())]
    if labels:
        result["Labels"] = dict(sorted(labels.items()))
    return dict(sorted(result.items()))


def _blob(media_type: str, document: Mapping[str, Any]) -> Blob:
    return Blob(media_type, json.dumps(document, indent=1, ensure_ascii=False).encode())


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _store(path: Path, octets: bytes) -> None:
    if path.is_file() and path.read_bytes() == octets:
        return
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(octets)
    partial = Path(name)
    partial.chmod(0o644)
    partial.replace(path)


def _share(source: Path, target: Path, size: int) -> None:
    """Make the blob *source* appear as *target*, by a hard link where the file system has them."""
    if target.is_file() and target.stat().st_size == size:
        return
    partial = target.with_name(f".new-{os.getpid()}-{target.name}")
    partial.unlink(missing_ok=True)
    try:
        partial.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)
