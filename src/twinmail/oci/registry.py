"""A registry as its clients see it: requests with login, time limits and second tries.

Source: OCI distribution spec v1.1.
"""

import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from twinmail.oci import docker_credentials
from twinmail.oci.destination import Destination
from twinmail.oci.layout import INDEX, MANIFEST
from twinmail.oci.registry_error import RegistryError, RegistryUnavailable, told
from twinmail.oci.registry_login import Challenge, Login

# A registry checks a whole layer, and may copy it to where it keeps them, before it answers.
_TIMEOUT = urllib3.Timeout(connect=10, read=300)
_TRIES = 5
# Worth another try (RFC 9110 section 15.6, RFC 6585 section 4).
_RETRIED = (408, 429, 500, 502, 503, 504)
_NONE: Mapping[str, str] = {}

# Where container engines look for the CA of a registry that has one of its own.
_CERTIFICATES = Path("/etc/docker/certs.d")

Response = urllib3.BaseHTTPResponse


class Registry:
    """The registry of *destination*.

    Attributes:
        pause: base of the time between two tries, in seconds.
    """

    def __init__(
        self,
        destination: Destination,
        credentials: docker_credentials.Credentials | None = None,
        pause: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.destination = destination
        self.pause = pause
        self._sleep = sleep
        self._pool = _pool(destination)
        self._login = Login(self._pool, destination.host, credentials, destination.scheme == "http")

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def manifest(self, repository: str, reference: str) -> str | None:
        """Digest of the manifest or index that *reference*, a tag or digest, means; None without one."""
        response = self.request(
            "HEAD",
            f"/v2/{repository}/manifests/{reference}",
            [_scope(repository)],
            (200, 404),
            headers={"Accept": f"{INDEX}, {MANIFEST}"},
        )
        if response.status == 404:
            return None
        digest = response.headers.get("Docker-Content-Digest")
        return digest or (reference if reference.startswith("sha256:") else "")

    def put_manifest(self, repository: str, reference: str, media_type: str, octets: bytes) -> None:
        """Make *reference* mean *octets*, whose blobs must be there."""
        url = f"/v2/{repository}/manifests/{reference}"
        self.request(
            "PUT", url, [_scope(repository)], (201,), body=octets, headers={"Content-Type": media_type}
        )

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether *repository* has the blob with *digest*."""
        url = f"/v2/{repository}/blobs/{digest}"
        return self.request("HEAD", url, [_scope(repository)], (200, 404)).status == 200

    def mount(self, repository: str, digest: str, other: str) -> tuple[bool, str]:
        """Let *repository* have the blob with *digest* that *other* has.

        Returns:
            Whether that was done; if not, the location of the upload that the registry has begun instead.
        """
        scopes = [_scope(repository), f"repository:{other}:pull"]
        url = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={other}"
        response = self.request("POST", url, scopes, (201, 202))
        return (True, "") if response.status == 201 else (False, self.location(response))

    def begin_upload(self, repository: str) -> tuple[str, int]:
        """Begin an upload; return its location, and how many octets a piece must have at least."""
        response = self.request("POST", f"/v2/{repository}/blobs/uploads/", [_scope(repository)], (202,))
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        return self.location(response), int(least) if least.isdecimal() else 0

    def location(self, response: Response) -> str:
        """Where *response* says that the upload goes on.

        Raises:
            RegistryError: it does not say.
        """
        given = response.headers.get("Location")
        if not given:
            raise RegistryError(f"{self.destination.host}: an upload without a Location; it is no registry")
        return urljoin(f"{self.destination.api}/", given)

    def request(
        self,
        method: str,
        url: str,
        scopes: Sequence[str],
        expected: Sequence[int],
        *,
        body: Any = None,
        headers: Mapping[str, str] = _NONE,
        tries: int = _TRIES,
    ) -> Response:
        """Send one request, again if that may help, and return the response; its status is one *expected*.

        Raises:
            RegistryUnavailable: it cannot be reached, or is overloaded, each of *tries* times.
            RegistryError: it answered with another status, or wants credentials that we do not have.
        """
        url = urljoin(f"{self.destination.api}/", url)
        own = urlsplit(url).netloc == urlsplit(self.destination.api).netloc
        why = ""
        for turn in range(tries):
            if turn:
                # Full jitter, so that several clients do not come back together.
                self._sleep(self.pause * 2 ** (turn - 1) * (0.5 + random.random()))
            try:
                response = self._send(method, url, scopes if own else (), body, headers)
                if response.status == 401 and own:
                    challenge = response.headers.get("WWW-Authenticate", "")
                    self._login.answer(Challenge.parse(challenge), scopes)
                    response = self._send(method, url, scopes, body, headers)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                inner = getattr(error, "reason", None) or error
                why = str(inner).rpartition(">: ")[2]
                if isinstance(inner, urllib3.exceptions.SSLError):
                    raise RegistryError(
                        f"{self.destination.host}: {why}; if it has a CA of its own, put that where "
                        f"Docker looks for it: {_CERTIFICATES / self.destination.host / 'ca.crt'}"
                    ) from error
                continue
            if response.status in expected:
                return response
            why = f"{method} {urlsplit(url).path} answers {response.status} ({told(response)})"
            if response.status in (401, 403):
                raise RegistryError(
                    f"{self.destination.host}: {why}; log in as somebody who may push there: docker login "
                    f"{self.destination.host}"
                )
            if response.status not in _RETRIED:
                raise RegistryError(f"{self.destination.host}: {why}")
        raise RegistryUnavailable(
            f"{self.destination.host}: {why}; run the same command again, what is there is not sent again"
        )

    def _send(
        self, method: str, url: str, scopes: Sequence[str], body: Any, headers: Mapping[str, str]
    ) -> Response:
        known = self._login.header(scopes) if scopes else None
        if hasattr(body, "seek"):
            body.seek(0)
        return self._pool.request(
            method,
            url,
            body=body,
            headers={
                "User-Agent": "twinmail",
                **headers,
                **({"Authorization": known} if known else {}),
            },
        )


def _scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _pool(destination: Destination) -> urllib3.PoolManager:
    context = ssl.create_default_context()
    own = _CERTIFICATES / destination.host / "ca.crt"
    if own.is_file():
        context.load_verify_locations(own)
    # Ours are the second tries; urllib3's would repeat pieces of an upload.
    settings: dict[str, Any] = {
        "timeout": _TIMEOUT,
        "retries": urllib3.Retry(0, redirect=5),
        "ssl_context": context,
    }
    proxy = getproxies().get(destination.scheme)
    if proxy and not proxy_bypass(destination.host):
        return urllib3.ProxyManager(proxy, **settings)
    return urllib3.PoolManager(**settings)
