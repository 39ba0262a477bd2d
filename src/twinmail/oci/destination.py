"""Where images are pushed to, and what they are called there.

Source: OCI distribution spec v1.1, "Endpoints" and "Pulling manifests" (names of repositories).
"""

import ipaddress
import re
from dataclasses import dataclass

from twinmail.errors import PermanentError

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::([0-9]{1,5}))?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")

_HUB, _HUB_API = "docker.io", "registry-1.docker.io"


class DestinationError(PermanentError):
    """The text names no registry, or one that would be reached without TLS."""


@dataclass(frozen=True)
class Destination:
    """A place in a registry.

    Attributes:
        scheme: ``https``; ``http`` for a registry on this machine alone.
        host: with the port, if there is one.
        path: what the names of all repositories start with; may be empty.
    """

    scheme: str
    host: str
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """``registry.example.org/ann/twinmail`` or ``127.0.0.1:5000``, with or without its scheme.

        Raises:
            DestinationError: see there.
        """
        scheme, given, rest = text.rpartition("://")
        host, _, path = rest.rstrip("/").partition("/")
        match = _HOST.fullmatch(host)
        if not match or (path and not _PATH.fullmatch(path)) or scheme not in ("", "http", "https"):
            raise DestinationError(
                f"{text!r} is no registry: expected HOST[:PORT][/PATH], such as "
                "registry.example.org/ann/twinmail, with a path in lower case and without tag or digest"
            )
        loopback = _is_loopback(match[1])
        if scheme == "http" and not loopback:
            raise DestinationError(
                f"{text!r}: http would show passwords to everybody on the way; use https://{host}, or "
                "reach it through a tunnel as 127.0.0.1:PORT"
            )
        return cls(scheme if given else "http" if loopback else "https", host, path)

    @property
    def api(self) -> str:
        """Where its API is, without a slash at the end."""
        # The hub's images carry a name at which nothing answers.
        return f"{self.scheme}://{_HUB_API if self.host == _HUB else self.host}"

    def repository(self, image: str) -> str:
        """The name of *image*'s repository within the registry."""
        return f"{self.path}/{image}" if self.path else image

    def reference(self, image: str, digest: str) -> str:
        """What an engine calls *image*: the manifest, or index, with *digest*."""
        return f"{self.host}/{self.repository(image)}@{digest}"

    def __str__(self) -> str:
        return f"{self.host}/{self.path}" if self.path else self.host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
