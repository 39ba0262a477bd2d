"""Where Debian packages come from: the override, this machine's apt settings, the archive of the past."""

from dataclasses import dataclass

# The archive of Debian's past; the one host that may be named, because it alone keeps every version.
SNAPSHOT = "https://snapshot.debian.org/archive"


@dataclass(frozen=True)
class Mirrors:
    """Base URLs by preference.

    Attributes:
        archives: base URLs by archive name (``debian``, ``debian-security``), best first.
        snapshot: base URL of the archive of the past.
    """

    archives: dict[str, tuple[str, ...]]
    snapshot: str = SNAPSHOT
