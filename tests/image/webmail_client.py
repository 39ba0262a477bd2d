"""A browser without a screen: logs in to the webmail and does over HTTPS what its pages do."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

_TOKEN = re.compile(r'"request_token":"([^"]+)"|name="_token" value="([^"]+)"')


class _From(HTTPAdapter):
    """Connects from a loopback address of its own, as another client would."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, source_address=(self._address, 0))


@dataclass
class WebmailClient:
    """One browser at the webmail on loopback *port*.

    Attributes:
        ca: file with the authority that it trusts.
        address: loopback address that it comes from.
    """

    port: int
    ca: Path
    address: str = "127.0.0.1"
    session: requests.Session = field(default_factory=requests.Session)
    token: str = ""

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.session.verify = str(self.ca)
        self.session.mount("https://", _From(self.address))

    def get(self, query: str = "", **options: Any) -> requests.Response:
        """GET the page with *query*, or the path that starts with ``/``."""
        return self._noted(self.session.get(self._url(query), timeout=60, **options))

    def post(self, query: str, data: dict[str, Any] | None = None, **options: Any) -> requests.Response:
        """POST *data* with the session's token."""
        fields = {"_token": self.token, **(data or {})}
        return self._noted(self.session.post(self._url(query), data=fields, timeout=120, **options))

    def ajax(self, query: str) -> dict[str, Any]:
        """What a page's own request returns."""
        headers = {"X-Requested-With": "XMLHttpRequest", "X-Roundcube-Request": self.token}
        response = self.session.get(self._url(f"{query}&_remote=1"), headers=headers, timeout=60)
        found: dict[str, Any] = json.loads(response.text)
        return found

    def upload(self, query: str, field: str, name: str, data: bytes, kind: str) -> requests.Response:
        """Post one file as a page's own request does."""
        headers = {"X-Requested-With": "XMLHttpRequest", "X-Roundcube-Request": self.token}
        return self.post(f"{query}&_remote=1", files={field: (name, data, kind)}, headers=headers)

    def log_in(self, user: str, password: str) -> requests.Response:
        """Fill in the form; the answer is the mailbox, or the form again with status 401."""
        self.get()
        fields = {"_task": "login", "_action": "login", "_timezone": "UTC", "_url": ""}
        return self.post("?_task=login", {**fields, "_user": user, "_pass": password})

    def compose_id(self) -> str:
        """Open a compose window and return its id."""
        page = self.get("?_task=mail&_action=compose")
        match = re.search(r'"compose_id":"([^"]+)"', page.text)
        assert match, page.text[:2000]
        return match[1]

    def identities(self) -> dict[str, str]:
        """Id of each identity by its text."""
        page = self.get("?_task=mail&_action=compose").text
        options = re.findall(r'<option value="(\d+)"[^>]*>([^<]*@[^<]*)</option>', page)
        return {text.replace("&lt;", "<").replace("&gt;", ">"): number for number, text in options}

    def send(
        self, sender: str, to: str, subject: str = "hello", body: str = "hello", compose_id: str = ""
    ) -> str:
        """Send as the identity, or the forged From, *sender*; return what the page is told."""
        fields = {
            "_attachments": "",
            "_task": "mail",
            "_action": "send",
            "_id": compose_id or self.compose_id(),
            "_from": sender,
            "_to": to,
            "_subject": subject,
            "_message": body,
            "_store_target": "Sent",
            "_is_html": "0",
            "_framed": "1",
        }
        return self.post("?_task=mail&_action=send&_framed=1", fields).text

    def _noted(self, response: requests.Response) -> requests.Response:
        if match := _TOKEN.search(response.text if "html" in response.headers["Content-Type"] else ""):
            self.token = match[1] or match[2]
        return response

    def _url(self, query: str) -> str:
        return f"https://127.0.0.1:{self.port}/{query.lstrip('/')}"
