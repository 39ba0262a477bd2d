"""Images in an OCI image layout, read and verified.

Source: image-spec v1.1 (image-layout.md, image-index.md, manifest.md, config.md).
"""

import gzip
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from twinmail.runtime.interface import GID, UID, ContainerSpec, ImageError

INDEX_TYPES = ("application/vnd.oci.image.index.v1+json",)
MANIFEST_TYPES = ("application/vnd.oci.image.manifest.v1+json",)
LAYER_TYPES = {
    "application/vnd.oci.image.layer.v1.tar": False,
    "application/vnd.oci.image.layer.v1.tar+gzip": True,
}
REFERENCE = "org.opencontainers.image.ref.name"
USERS = (f"{UID}:{GID}", f"{UID}", "twinmail", "twinmail:twinmail")

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Layer:
    """One layer: its stored blob, and the digest of its uncompressed bytes.

    Attributes:
        blob: file in the layout.
        digest: of the stored bytes (``sha256:…``).
        diff_id: of the uncompressed tar.
        compressed: whether the blob is gzip.
    """

    blob: Path
    digest: str
    diff_id: str
    compressed: bool

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The uncompressed tar."""
        with self.blob.open("rb") as raw:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if self.compressed else raw


@dataclass(frozen=True)
class Image:
    """An image for one platform, its manifest and config verified.

    Attributes:
        name: name of the layout's folder.
        platform: for example ``linux/amd64``.
        manifest_digest, config_digest: ``sha256:…`` of the stored bytes.
        manifest, config: files in the layout.
        layers: from the lowest to the highest.
    """

    name: str
    platform: str
    manifest_digest: str
    config_digest: str
    manifest: Path
    config: Path
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: dict[str, str]
    folder: str

    @classmethod
    def load(cls, layout: Path, platform: str, reference: str | None = None) -> "Image":
        """Find the image for *platform* in the layout at *layout*.

        Raises:
            ImageError: there is none, or a document is not what its digest says.
        """
        descriptor = _find(layout, layout / "index.json", platform, reference)
        manifest_path, manifest = _document(layout, descriptor["digest"])
        config_path, config = _document(layout, manifest["config"]["digest"])
        built = f"{config.get('os')}/{config.get('architecture')}"
        if built != platform:
            raise ImageError(
                f"{config_path}: expected an image for {platform}, got one for {built}; build again"
            )
        settings = config.get("config") or {}
        if settings.get("User") not in USERS:
            raise ImageError(
                f"{config_path}: expected User {UID}:{GID}, got {settings.get('User')!r}; "
                "images never run as another user: fix its image.toml"
            )
        return cls(
            name=layout.name,
            platform=platform,
            manifest_digest=descriptor["digest"],
            config_digest=manifest["config"]["digest"],
            manifest=manifest_path,
            config=config_path,
            layers=_layers(layout, manifest_path, manifest["layers"], config["rootfs"]["diff_ids"]),
            entrypoint=tuple(settings.get("Entrypoint") or ()),
            command=tuple(settings.get("Cmd") or ()),
            environment=dict(one.partition("=")[::2] for one in settings.get("Env") or ()),
            folder=settings.get("WorkingDir") or "/",
        )

    def argv(self, spec: ContainerSpec) -> tuple[str, ...]:
        """The command line that *spec* runs.

        Raises:
            ImageError: neither the image nor *spec* names a program.
        """
        entrypoint = self.entrypoint if spec.entrypoint is None else spec.entrypoint
        default = self.command if spec.entrypoint is None else ()
        argv = (*entrypoint, *(default if spec.command is None else spec.command))
        if not argv:
            raise ImageError(f"{self.config}: the image names no program to run, and {spec.name} neither")
        return argv

    def read(self, path: str) -> bytes | None:
        """Contents of the regular file *path* (relative to the root), or None if the image has none.

        Raises:
            ImageError: a layer is damaged.
        """
        for layer in reversed(self.layers):
            try:
                with layer.open() as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
                    for entry in archive:
                        if entry.name.removeprefix("./").lstrip("/") == path and entry.isreg():
                            body = archive.extractfile(entry)
                            return body.read() if body else b""
            except (OSError, tarfile.TarError, EOFError) as error:
                raise ImageError(f"{layer.blob}: damaged layer: {error}; build the image again") from error
        return None


def blob(layout: Path, digest: str) -> Path:
    """Where the layout keeps the bytes with *digest*.

    Raises:
        ImageError: *digest* is no SHA-256 digest.
    """
    match = _DIGEST.fullmatch(digest)
    if not match:
        raise ImageError(f"{layout}: expected a digest sha256:<64 hex digits>, got {digest!r}; build again")
    return layout / "blobs" / "sha256" / match[1]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; build the image first: ./inv build") from error


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise ImageError(f"{path}: not JSON: {error}; build the image again: ./inv build") from error
    if not isinstance(document, dict):
        raise ImageError(f"{path}: expected a JSON object; build the image again: ./inv build")
    return document


def _document(layout: Path, digest: str) -> tuple[Path, dict[str, Any]]:
    path = blob(layout, digest)
    data = _read(path)
    actual = "sha256:" + hashlib.sha256(data).hexdigest()
    if actual != digest:
        raise ImageError(f"{path}: expected {digest}, got {actual}; build the image again: ./inv build")
    return path, _parse(path, data)


def _find(layout: Path, source: Path, platform: str, reference: str | None) -> dict[str, Any]:
    """The descriptor of the manifest for *platform*; an index may name further indexes."""
    found: list[str] = []

    def search(index: dict[str, Any], inherited: str | None) -> dict[str, Any] | None:
        for descriptor in index.get("manifests", ()):
            name = (descriptor.get("annotations") or {}).get(REFERENCE, inherited)
            kind = descriptor.get("mediaType")
            if kind in INDEX_TYPES:
                inner = search(_document(layout, descriptor["digest"])[1], name)
                if inner:
                    return inner
            elif kind in MANIFEST_TYPES:
                own = descriptor.get("platform") or _platform(layout, descriptor["digest"])
                described = f"{own.get('os')}/{own.get('architecture')}"
                found.append(f"{described} ({name})" if name else described)
                if described == platform and reference in (None, name):
                    return cast(dict[str, Any], descriptor)
        return None

    descriptor = search(_parse(source, _read(source)), None)
    if descriptor is None:
        wanted = f"{platform} ({reference})" if reference else platform
        raise ImageError(
            f"{layout}: no image for {wanted}; it holds {', '.join(found) or 'none'}; "
            f"run: ./inv build --image {layout.name} --platform {platform}"
        )
    return descriptor


def _platform(layout: Path, digest: str) -> dict[str, Any]:
    """Platform of a manifest whose descriptor does not say."""
    return _document(layout, _document(layout, digest)[1]["config"]["digest"])[1]


def _layers(
    layout: Path, manifest: Path, descriptors: list[dict[str, Any]], diff_ids: list[str]
) -> tuple[Layer, ...]:
    if len(descriptors) != len(diff_ids):
        raise ImageError(f"{manifest}: {len(descriptors)} layers but {len(diff_ids)} diff IDs; build again")
    layers = []
    for descriptor, diff_id in zip(descriptors, diff_ids, strict=True):
        compressed = LAYER_TYPES.get(descriptor["mediaType"])
        if compressed is None:
            raise ImageError(
                f"{manifest}: expected layers of type {' or '.join(LAYER_TYPES)}, "
                f"got {descriptor['mediaType']}"
            )
        layers.append(Layer(blob(layout, descriptor["digest"]), descriptor["digest"], diff_id, compressed))
    return tuple(layers)
