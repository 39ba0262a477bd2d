"""Small images with layers of a chosen size, as the builder writes them, for both platforms."""

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path

from twinmail.oci import layout
from twinmail.oci.layer import Layer
from twinmail.oci.push import ImagePush, plan
from twinmail.oci.spec import PLATFORMS, ImageSpec, RunConfig

EPOCH = 1_700_000_000


def build(folder: Path, name: str, layers: Mapping[str, int]) -> ImagePush:
    """The image *name* below *folder*, of *layers*: octets by content; equal ones make equal layers."""
    blobs = folder / "layers"
    blobs.mkdir(parents=True, exist_ok=True)
    spec = ImageSpec(name, folder, config=RunConfig(entrypoint=("/nothing",), user="1000:1000"))
    images = [
        layout.image([spec], platform, EPOCH, [_layer(blobs, key, size) for key, size in layers.items()])
        for platform in PLATFORMS
    ]
    layout.write(folder / name, {layout.LATEST: images, layout.DEBUG: images}, blobs)
    return plan(name, folder / name)


def _layer(folder: Path, key: str, size: int) -> Layer:
    """A layer with one file of *size* octets that do not compress, decided by *key* alone."""
    content = random.Random(key).randbytes(size)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(key)
        entry.size = size
        archive.addfile(entry, io.BytesIO(content))
    stored = gzip.compress(stream.getvalue(), 1, mtime=0)
    digest = hashlib.sha256(stored).hexdigest()
    (folder / digest).write_bytes(stored)
    diff_id = f"sha256:{hashlib.sha256(stream.getvalue()).hexdigest()}"
    return Layer(f"sha256:{digest}", len(stored), diff_id, len(stream.getvalue()), {}, origin=key)
