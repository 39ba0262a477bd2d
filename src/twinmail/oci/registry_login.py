"""Showing a registry who is asking: Basic, or a token of its token server.

Source: RFC 9110 section 11 (challenges), RFC 7617 (Basic); distribution's documents "Token authentication"
and "OAuth2 token authentication" (scopes, ``identitytoken``).
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from twinmail.oci.docker_credentials import Credentials
from twinmail.oci.registry_error import RegistryError, told

_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_CLIENT = "twinmail"


@dataclass(frozen=True)
class Challenge:
    """What a registry wants to see.

    Attributes:
        scheme: ``basic`` or ``bearer``.
    """

    scheme: str
    parameters: Mapping[str, str]

    @classmethod
    def parse(cls, header: str) -> "Challenge":
        """The value of ``WWW-Authenticate``."""
        scheme, _, rest = header.strip().partition(" ")
        found = {
            name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            for name, quoted, plain in _PARAMETER.findall(rest)
        }
        return cls(scheme.lower(), found)


@dataclass
class Login:
    """Who we are for one registry.

    Attributes:
        host: its name, for messages.
        loopback: whether it is on this machine, so that plain http is fine.
    """

    pool: urllib3.PoolManager
    host: str
    credentials: Credentials | None
    loopback: bool
    _headers: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False)

    def header(self, scopes: Sequence[str]) -> str | None:
        """What is known to open *scopes*, as a value of ``Authorization``."""
        return self._headers.get(tuple(scopes))

    def answer(self, challenge: Challenge, scopes: Sequence[str]) -> None:
        """Get what *challenge* asks for, so that `header` has it.

        Raises:
            RegistryError: there are no credentials, or they are refused.
        """
        if challenge.scheme == "basic":
            if self.credentials is None or not self.credentials.user:
                raise self._refused("it wants a user and a password")
            self._headers[tuple(scopes)] = _basic(self.credentials)
        elif challenge.scheme == "bearer" and "realm" in challenge.parameters:
            self._headers[tuple(scopes)] = f"Bearer {self._token(challenge.parameters, scopes)}"
        else:
            raise RegistryError(
                f"{self.host}: it wants to see {challenge.scheme or 'nothing that has a name'!r}; "
                "Basic and Bearer are known"
            )

    def _token(self, parameters: Mapping[str, str], scopes: Sequence[str]) -> str:
        realm = parameters["realm"]
        # The password goes there, so it must be as safe as the registry itself.
        if urlsplit(realm).scheme != "https" and not (self.loopback and urlsplit(realm).scheme == "http"):
            raise RegistryError(
                f"{self.host}: its token server is {realm!r}; no password is sent there without TLS"
            )
        query = [("service", parameters["service"])] if "service" in parameters else []
        query += [("scope", one) for one in scopes]
        known = self.credentials
        try:
            if known and known.identity_token:
                form = [*query[:1], ("scope", " ".join(scopes)), ("client_id", _CLIENT)]
                form += [("grant_type", "refresh_token"), ("refresh_token", known.identity_token)]
                response = self.pool.request("POST", realm, fields=dict(form), encode_multipart=False)
            else:
                headers = {"Authorization": _basic(known)} if known else {}
                joint = "&" if "?" in realm else "?"
                response = self.pool.request(
                    "GET", f"{realm}{joint}{urlencode(query)}", headers=headers, redirect=False
                )
        except urllib3.exceptions.HTTPError as error:
            raise RegistryError(
                f"{self.host}: its token server {realm} cannot be reached: {error}"
            ) from error
        if response.status in (401, 403):
            raise self._refused(f"its token server answers {response.status} ({told(response)})")
        try:
            document: dict[str, Any] = json.loads(response.data)
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError):
            raise RegistryError(
                f"{self.host}: its token server {realm} answers {response.status} without a token"
            ) from None
        return str(token)

    def _refused(self, why: str) -> RegistryError:
        known = f"user {self.credentials.user!r}" if self.credentials else "nobody"
        return RegistryError(
            f"{self.host}: {why}; ~/.docker/config.json names {known} for it: docker login {self.host}"
        )


def _basic(credentials: Credentials) -> str:
    text = f"{credentials.user}:{credentials.password}"
    return f"Basic {b64encode(text.encode()).decode()}"
