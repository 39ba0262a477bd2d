"""What a build made: digests and sizes, as data that tasks print and tests compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Built:
    """One image of one platform.

    Attributes:
        manifest: digest of the manifest.
        debug: digest of the manifest of the variant with a shell.
        config: digest of the config, which is what engines call the image id.
        layers: digests of the layers, lowest first.
        diff_ids: digests of the layers before compression.
        sizes: octets of each layer as stored.
    """

    manifest: str
    debug: str
    config: str
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Octets of all layers as stored."""
        return sum(self.sizes)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Built":
        """The opposite of `to_json`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class BuildReport:
    """What a build made.

    Attributes:
        layouts: folders of the layouts by image.
        images: by image, by platform.
        degraded: what is not as locked, one line each; empty for every build that can be repeated.
        unchanged: whether everything had been built before.
    """

    layouts: Mapping[str, Path]
    images: Mapping[str, Mapping[str, Built]]
    degraded: tuple[str, ...] = ()
    unchanged: bool = False

    def to_json(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {
            "images": {
                name: {platform: built.to_json() for platform, built in sorted(platforms.items())}
                for name, platforms in self.images.items()
            },
            "layouts": {name: str(path) for name, path in self.layouts.items()},
            "degraded": list(self.degraded),
            "unchanged": self.unchanged,
        }
