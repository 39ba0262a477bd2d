"""Fetching what the locks name: from the cache, else from mirrors, always by sha256."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from twinmail.oci.cache import Cache
from twinmail.oci.lock import Package, Wheel
from twinmail.oci.mirrors import Mirrors


class Progress(Protocol):
    """What a fetch reports; called from several threads."""

    def start(self, files: int, octets: int) -> None:
        """This much is to be downloaded; called once, and not at all if the cache has everything."""

    def advance(self, name: str, octets: int) -> None:
        """*octets* more of *name* have arrived (negative when a broken download starts over)."""

    def warn(self, text: str) -> None:
        """Something the operator must know although the work goes on."""


def fetch_all(
    items: Sequence[Package | Wheel], cache: Cache, mirrors: Mirrors, progress: Progress, strict: bool
) -> Mapping[str, Path]:
    """Make every item available in *cache* and return its path by *locked* sha256.

    Without *strict*, a Debian package that has vanished everywhere is replaced by the newest signed version
    of it; its path then is named by another sha256 than its key, and `Progress.warn` has said so.

    Raises:
        FetchError: an item is not to be had; the text names what, where it was sought and the remedy.
    """
