"""User and password for a registry, where ``docker login`` has put them: ``~/.docker/config.json``."""

import json
import subprocess
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinmail.errors import PermanentError

# What a credential helper answers in place of a user when the password is an identity token.
_TOKEN_USER = "<token>"
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")
_HELPER_SECONDS = 60


class CredentialsError(PermanentError):
    """The file is damaged, or its credential helper failed."""


@dataclass(frozen=True)
class Credentials:
    """What to show a registry; printing it shows nothing.

    Attributes:
        identity_token: stands for user and password at the token server.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def load(file: Path, host: str) -> Credentials | None:
    """What *file* has for the registry *host* (with its port); None if it has nothing.

    Raises:
        CredentialsError: see there.
    """
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CredentialsError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CredentialsError(
            f"{file}: not JSON: {error}; mend it, or log in anew: docker login {host}"
        ) from error
    keys = [*(_HUB_KEYS if host == "docker.io" else ()), host, f"https://{host}", f"http://{host}"]
    keys += [f"{key}/" for key in keys[-2:]]
    for key in keys:
        helper = (document.get("credHelpers") or {}).get(key)
        if helper:
            return _ask(file, helper, key)
    entries = document.get("auths") or {}
    for key in keys:
        if key in entries:
            return _entry(file, key, entries[key]) or _ask(file, document.get("credsStore"), key)
    return None


def _entry(file: Path, key: str, entry: Any) -> Credentials | None:
    """The credentials in one of ``auths``; None where they are in the credential store."""
    if not isinstance(entry, dict):
        raise CredentialsError(f"{file}: auths: {key}: expected an object; log in anew: docker login {key}")
    if entry.get("identitytoken"):
        return Credentials(identity_token=str(entry["identitytoken"]))
    if entry.get("auth"):
        try:
            user, colon, password = b64decode(entry["auth"], validate=True).decode().partition(":")
        except ValueError:
            user = colon = password = ""
        if not colon:
            raise CredentialsError(
                f"{file}: auths: {key}: expected USER:PASSWORD in Base64; log in anew: docker login {key}"
            )
        return Credentials(user, password.rstrip("\0"))
    if entry.get("username") and entry.get("password"):
        return Credentials(str(entry["username"]), str(entry["password"]))
    return None


def _ask(file: Path, helper: Any, key: str) -> Credentials | None:
    """What the credential helper named *helper* knows: it reads the server's name and writes JSON."""
    if not helper:
        return None
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout) if not done.returncode else {}
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise CredentialsError(
            f"{file}: {key}: {program} failed: {type(error).__name__}; install it, or log in without it"
        ) from error
    user, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if not secret:
        return None
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)
