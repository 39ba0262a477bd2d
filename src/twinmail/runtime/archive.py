"""One image as the stream that ``docker load`` reads, whatever the engine's age.

The archive is an OCI layout, which engines with containerd's image store import as it is, and at the same
time a docker-archive (``manifest.json``, which names the same blobs), which the classic store wants. The
image's bytes, and so its digests, stay what they were built as.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinmail.runtime.image import INDEX_TYPES, MANIFEST_TYPES, REFERENCE, Image

_CHUNK = 1 << 20


def repository(image: Image) -> str:
    """What the engine calls an image, whatever its content."""
    return f"twinmail/{image.name}"


def tag(image: Image) -> str:
    """A name for this content of the image; the engine takes untagged images for waste."""
    return f"{repository(image)}:{image.config_digest.removeprefix('sha256:')[:12]}"


def stream(image: Image) -> Iterator[bytes]:
    """The archive, in pieces."""
    name = tag(image)
    os_name, _, architecture = image.platform.partition("/")
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPES[0],
        "manifests": [
            {
                "mediaType": MANIFEST_TYPES[0],
                "digest": image.manifest_digest,
                "size": image.manifest.stat().st_size,
                "platform": {"os": os_name, "architecture": architecture},
                "annotations": {
                    "io.containerd.image.name": f"docker.io/{name}",
                    REFERENCE: name.rpartition(":")[2],
                },
            }
        ],
    }
    legacy = [
        {
            "Config": _path(image.config),
            "RepoTags": [name],
            "Layers": [_path(layer.blob) for layer in image.layers],
        }
    ]
    yield from _document("oci-layout", {"imageLayoutVersion": "1.0.0"})
    yield from _document("index.json", index)
    yield from _document("manifest.json", legacy)
    for blob in dict.fromkeys((image.manifest, image.config, *(layer.blob for layer in image.layers))):
        yield _header(_path(blob), blob.stat().st_size)
        with blob.open("rb") as content:
            while piece := content.read(_CHUNK):
                yield piece
        yield _padding(blob.stat().st_size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _path(blob: Path) -> str:
    return f"blobs/sha256/{blob.name}"


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf()


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _document(name: str, content: Any) -> Iterator[bytes]:
    data = json.dumps(content).encode()
    yield _header(name, len(data)) + data + _padding(len(data))
