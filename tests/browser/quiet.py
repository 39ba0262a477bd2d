"""Notices what a browser complains about, and where it goes, while tests use it."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Request, Response, WebError

# Leaving a page cuts what it was still loading.
_LEFT = "net::ERR_ABORTED"


@dataclass
class Quiet:
    """Everything that a page of ours must not do.

    Attributes:
        origin: the only place where pages may load anything from.
        heard: what happened, in order.
        expected: patterns of what a test provokes.
    """

    origin: str
    heard: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Listen to all pages of *context*."""
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)
        context.on("dialog", self._dialog)

    def expect(self, pattern: str) -> None:
        """Complaints that match *pattern* are what the test is about."""
        self.expected.append(pattern)

    def complaints(self) -> list[str]:
        """What happened and was not expected."""
        return [one for one in self.heard if not any(re.search(pattern, one) for pattern in self.expected)]

    def _console(self, message: ConsoleMessage) -> None:
        # Mixed content that the browser upgrades or blocks is a warning.
        if message.type in ("error", "warning", "assert"):
            self.heard.append(f"console {message.type}: {message.text} ({message.location['url']})")

    def _error(self, error: WebError) -> None:
        self.heard.append(f"uncaught: {error.error}")

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob", "about") and f"{url.scheme}://{url.netloc}" != self.origin:
            self.heard.append(f"request elsewhere: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != _LEFT:
            self.heard.append(f"request failed: {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.heard.append(f"status {response.status}: {response.url}")

    def _dialog(self, dialog: Dialog) -> None:
        self.heard.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss() if dialog.type != "beforeunload" else dialog.accept()
