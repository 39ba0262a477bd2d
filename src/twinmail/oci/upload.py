"""One blob into a repository of a registry, in pieces, going on where an earlier process was stopped.

Source: OCI distribution spec v1.1, "Pushing a blob in chunks". What is not there:

* ``Range: 0-0`` is what distribution answers for an upload without any octet, so it is taken for that.
* distribution 2.x drops an upload whose last piece was cut (its location knows another size than its file),
  so that blob begins anew there; 3.x and others tell how far it is. Ctrl-C therefore lets the piece be
  completed.
* Some registries know only whole blobs, and refuse the first piece.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twinmail.oci.registry import Registry, Response
from twinmail.oci.registry_error import RegistryError, RegistryUnavailable
from twinmail.oci.upload_sessions import UploadSessions

PIECE = 8 * 1024 * 1024
"""Octets sent at once. Elastic Container Registry takes no pieces below 5 MiB."""

_RANGE = re.compile(r"(?:bytes[ =])?0-(\d+)")
_NO_PIECES = (400, 405, 411, 413, 415, 501)
_LOST = (400, 404, 410)
_BEGINNINGS = 3
# How often a piece is sent again without that an octet more arrives.
_IDLE = 3
_OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Upload:
    """A blob on its way.

    Attributes:
        file: with its octets.
        advance: told how many more octets are there; fewer than none where the registry lost some.
        pause: called between two pieces; may raise to stop there.
    """

    registry: Registry
    repository: str
    digest: str
    file: Path
    sessions: UploadSessions
    advance: Callable[[int], None]
    pause: Callable[[], None]

    @property
    def key(self) -> str:
        """What the sessions call it."""
        return f"{self.registry.destination.api} {self.repository}@{self.digest}"

    def run(self, location: str = "") -> int:
        """Send what the registry does not have yet; *location* is an upload that has begun without an octet.

        Returns:
            How many octets of it the registry had from an earlier process.

        Raises:
            RegistryUnavailable, RegistryError: the same again goes on from where it is.
        """
        size = self.file.stat().st_size
        for beginning in range(_BEGINNINGS):
            kept, known, least = 0, self.sessions.get(self.key), 0
            if known:
                found = self._status(known)
                kept, location = found or (0, location)
            if not location:
                location, least = self.registry.begin_upload(self.repository)
            self.sessions.put(self.key, location)
            try:
                if self._pieces(location, kept, size, max(PIECE, least)):
                    self.sessions.drop(self.key)
                    return kept if not beginning else 0
            except RegistryError:
                self.sessions.drop(self.key)
                raise
            self.sessions.drop(self.key)
            location = ""
        raise RegistryUnavailable(
            f"{self.registry.destination.host}: it lost {self.repository}@{self.digest} {_BEGINNINGS} times "
            "while it was sent; try again later"
        )

    def _pieces(self, location: str, offset: int, size: int, piece: int) -> bool:
        """Send everything from *offset*; False if the registry has lost the upload."""
        sent, idle = offset, 0
        self.advance(offset)
        with self.file.open("rb") as stream:
            while offset < size:
                self.pause()
                if not offset and size <= piece:
                    break
                stream.seek(offset)
                octets = stream.read(piece)
                response = self._patch(location, offset, octets)
                if response is None or response.status == 416:
                    found = self._status(location)
                    idle = idle + 1 if found and found[0] <= offset else 0
                    # Refused at the very place it names, or cut there again and again.
                    if found is None or (idle and response is not None) or idle > _IDLE:
                        self.advance(-sent)
                        return False
                    offset, location = found
                elif response.status == 202:
                    location = self.registry.location(response)
                    offset = _reached(response, offset + len(octets))
                elif response.status in _NO_PIECES and not offset:
                    # It takes whole blobs only, by an upload that has not seen a piece.
                    location, _ = self.registry.begin_upload(self.repository)
                    break
                else:
                    self.advance(-sent)
                    return False
                self.sessions.put(self.key, location)
                self.advance(offset - sent)
                sent = offset
            whole = not offset and size > 0
            if not self._complete(location, stream if whole else None, size if whole else 0):
                self.advance(-sent)
                return False
            self.advance(size - sent)
        return True

    def _patch(self, location: str, offset: int, octets: bytes) -> Response | None:
        """Send one piece; None if nobody knows how much of it arrived."""
        headers = {
            **_OCTETS,
            "Content-Length": str(len(octets)),
            "Content-Range": f"{offset}-{offset + len(octets) - 1}",
        }
        expected = (202, 416, *_NO_PIECES, *_LOST)
        try:
            return self.registry.request(
                "PATCH", location, [self._scope], expected, body=octets, headers=headers, tries=1
            )
        except RegistryUnavailable:
            return None

    def _status(self, location: str) -> tuple[int, str] | None:
        """How many octets the upload at *location* has, and where it goes on; None if it is lost."""
        response = self.registry.request("GET", location, [self._scope], (202, 204, *_LOST, 405, 416))
        if response.status not in (202, 204):
            return None
        onwards = self.registry.location(response) if "Location" in response.headers else location
        return _reached(response, 0), onwards

    def _complete(self, location: str, body: object, size: int) -> bool:
        """Close the upload, with its only piece *body* or without; False if the registry has lost it."""
        joint = "&" if "?" in location else "?"
        headers = {**_OCTETS, "Content-Length": str(size)}
        url = f"{location}{joint}digest={self.digest}"
        expected = (201, 204, 404, 410, 416, *((400,) if body is None else ()))
        response = self.registry.request("PUT", url, [self._scope], expected, body=body, headers=headers)
        # An answer lost on its way makes the second try find no upload; the blob is there then.
        return response.status in (201, 204) or self.registry.has_blob(self.repository, self.digest)

    @property
    def _scope(self) -> str:
        return f"repository:{self.repository}:pull,push"


def _reached(response: Response, otherwise: int) -> int:
    match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
    if not match:
        return otherwise
    return int(match[1]) + 1 if int(match[1]) else 0
