"""HTTP for downloads: kept-alive connections, retries with backoff, and sources tried in order."""

import random
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass

import urllib3

from twinmail.errors import TransientError

PARALLEL = 8
_BLOCK = 1 << 17
_TRIES = 4
_TIMEOUT = urllib3.Timeout(connect=10, read=30)
# Worth another try at the same place (RFC 9110 section 15.6, RFC 6585 section 4).
_RETRIED = (408, 429, 500, 502, 503, 504)
_GONE = (404, 410)
# ".deb" and wheels are compressed already; index pages are small.
_HEADERS = {"User-Agent": "twinmail", "Accept-Encoding": "identity"}
_NONE: Mapping[str, str] = {}

# Takes the URL and the response with an unread body; see `Transport.first`.
Receiver = Callable[[str, urllib3.BaseHTTPResponse], None]


class Cancelled(TransientError):
    """The operator stopped the downloads."""


class WrongContent(Exception):
    """A complete body that is not the expected one."""


@dataclass(frozen=True)
class Attempt:
    """One source that did not have the file.

    Attributes:
        gone: whether it answered that it has no such file.
        wrong: whether it sent another file.
    """

    url: str
    why: str
    gone: bool = False
    wrong: bool = False


@dataclass
class Transport:
    """Connections to all the hosts a run needs; safe to share between threads.

    Attributes:
        proxies: proxy URL by scheme.
        certificates: file of CA certificates, or None for the system's.
        pause: base of the backoff, in seconds.
    """

    proxies: Mapping[str, str] = field(default_factory=dict)
    certificates: Path | None = None
    pause: float = 0.3

    def __post_init__(self) -> None:
        self.cancelled = threading.Event()
        self._pools: dict[tuple[str, str | None], urllib3.PoolManager] = {}
        self._down: dict[str, str] = {}
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()

    def first(
        self, urls: Iterable[str], receive: Receiver, headers: Mapping[str, str] = _NONE
    ) -> tuple[Attempt, ...] | None:
        """Offer the response of each URL to *receive* until it takes one without error.

        *receive* raises `WrongContent` for a body that is not the expected one; the next URL is tried then.

        Returns:
            None on success, else why each URL failed.

        Raises:
            Cancelled: the run was stopped.
        """
        attempts = []
        for url in urls:
            attempt = self._try(url, receive, headers)
            if attempt is None:
                return None
            attempts.append(attempt)
        return tuple(attempts)

    def _try(self, url: str, receive: Receiver, headers: Mapping[str, str]) -> Attempt | None:
        url, identity = _identity(url)
        host = urlsplit(url).netloc
        why = ""
        for turn in range(_TRIES):
            if self.cancelled.is_set():
                raise Cancelled("stopped by the operator")
            # One dead host must not cost every file its time-outs.
            if host in self._down:
                return Attempt(url, self._down[host])
            # Full jitter, so that parallel downloads do not come back together.
            if turn and self.cancelled.wait(self.pause * 2 ** (turn - 1) * (0.5 + random.random())):
                raise Cancelled("stopped by the operator")
            try:
                response = self._pool(url).request(
                    "GET", url, preload_content=False, headers={**_HEADERS, **identity, **headers}
                )
            except (urllib3.exceptions.HTTPError, OSError) as error:
                why = f"cannot be reached: {_reason(error)}"
                if turn == 1:
                    with self._guard:
                        self._down[host] = why
                continue
            try:
                if response.status == 200:
                    receive(url, response)
                    return None
                why = f"HTTP {response.status}"
                response.drain_conn()
                if response.status not in _RETRIED:
                    return Attempt(url, why, gone=response.status in _GONE)
            except WrongContent as error:
                return Attempt(url, str(error), wrong=True)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                why = f"broken download: {_reason(error)}"
            finally:
                # A body read to its end has given its connection back; any other connection is useless.
                response.close()
        return Attempt(url, why)

    def blocks(self, response: urllib3.BaseHTTPResponse) -> Iterable[bytes]:
        """The body of *response*, piece by piece.

        Raises:
            Cancelled: the run was stopped.
        """
        for block in response.stream(_BLOCK):
            if self.cancelled.is_set():
                raise Cancelled("stopped by the operator")
            yield block

    def _pool(self, url: str) -> urllib3.PoolManager:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
        proxy = self.proxies.get(scheme)
        if proxy and proxy_bypass(host):
            proxy = None
        with self._guard:
            if (scheme, proxy) not in self._pools:
                # urllib3 would retry only what fails before the body; ours covers the body, so its is off.
                settings: dict[str, Any] = {"maxsize": PARALLEL, "timeout": _TIMEOUT}
                settings["retries"] = urllib3.Retry(0, redirect=5)
                if self.certificates:
                    settings["ca_certs"] = str(self.certificates)
                self._pools[scheme, proxy] = (
                    urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)
                )
            return self._pools[scheme, proxy]


def _identity(url: str) -> tuple[str, dict[str, str]]:
    """The URL without user and password, which must not get into messages, and the header that has them."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, {}
    text = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return plain, {"Authorization": f"Basic {b64encode(text.encode()).decode()}"}


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None) or error
    text = str(inner)
    # "<…HTTPConnection object at 0x…>: Failed to establish …": only the end of it is for people.
    return text.rpartition(">: ")[2] or type(inner).__name__
