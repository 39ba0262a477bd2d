"""Secrets that others hand out and an operator brings: looked at before they are kept.

What is damaged here is told here, and not by a server that does not start.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from twinmail.access_key import NewKey
from twinmail.certificate import pair
from twinmail.certificate.place import CERTIFICATE, KEY
from twinmail.certificate.validity import Unreadable
from twinmail.config import Config
from twinmail.errors import PermanentError

_SERVER, _NAME = "SERVER", "NAME"
_PART = re.compile(r"[a-z0-9][a-z0-9._-]*")


class NotASecret(PermanentError):
    """What was given is not what the name calls for."""


@dataclass(frozen=True)
class Given:
    """What is to be kept, and where."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class _Kind:
    """A kind of secrets, ``SERVER`` or ``NAME`` in its name; *reads* returns what is kept, by name."""

    name: str
    form: str
    reads: Callable[[str, bytes], tuple[Given, ...]]


def form(name: str) -> str:
    """What is expected of the secret *name*, which `check_name` has passed."""
    return next(one.form for one in _KINDS if _part(one, name))


def check_name(config: Config, name: str) -> None:
    """See that the secret *name* is one that people bring.

    Raises:
        NotASecret: it is not, or there is no such server.
    """
    kind = next((one for one in _KINDS if _part(one, name)), None)
    if kind is None:
        known = "\n".join(f"  {one.name}: {one.form}" for one in _KINDS)
        raise NotASecret(
            f"secret {name}: is not brought by hand; ./inv secrets says how it is made. These are:\n{known}"
        )
    if _SERVER in kind.name and (server := _part(kind, name)) not in config.servers:
        raise NotASecret(f"secret {name}: no server {server!r}; expected one of {', '.join(config.servers)}")


def check(config: Config, name: str, data: bytes) -> tuple[Given, ...]:
    """What is kept of *data*, which was given as the secret *name*.

    Raises:
        NotASecret: see `check_name`; or *data* is damaged, or something else.
    """
    check_name(config, name)
    kind = next(one for one in _KINDS if _part(one, name))
    try:
        return kind.reads(name, data)
    except (ValueError, KeyError, TypeError, Unreadable, UnsupportedAlgorithm):
        # Not the reason: parsers quote what they read.
        raise NotASecret(f"secret {name}: expected {kind.form}; nothing was kept") from None


def _part(kind: _Kind, name: str) -> str:
    """What *name* has in place of ``SERVER`` or ``NAME``; empty if it is not of *kind*."""
    before, _, after = kind.name.partition(_SERVER if _SERVER in kind.name else _NAME)
    part = name.removeprefix(before).removesuffix(after)
    return part if name == f"{before}{part}{after}" and _PART.fullmatch(part) else ""


def _credentials(name: str, data: bytes) -> tuple[Given, ...]:
    key = NewKey.from_file(data)
    if not key.id.startswith("AKIA"):
        raise ValueError
    return (Given(name, key.to_file()),)


def _tunnel(name: str, data: bytes) -> tuple[Given, ...]:
    document = json.loads(data)
    if not all(isinstance(document[one], str) for one in ("AccountTag", "TunnelSecret", "TunnelID")):
        raise ValueError
    return (Given(name, data),)


def _pair(name: str, data: bytes) -> tuple[Given, ...]:
    folder = name.rpartition("/")[0]
    # In whichever order they come.
    certificates: list[bytes] = []
    keys: list[bytes] = []
    rest = data
    while b"-----BEGIN " in rest:
        block, _, rest = rest[rest.index(b"-----BEGIN ") :].partition(b"\n-----END ")
        label, _, rest = rest.partition(b"-----")
        whole = block + b"\n-----END " + label + b"-----\n"
        (certificates if label == b"CERTIFICATE" else keys).append(whole)
    (key,) = keys
    found = pair.load(b"".join(certificates), key)
    return (Given(f"{folder}/{KEY}", found.key), Given(f"{folder}/{CERTIFICATE}", found.chain))


def _password(name: str, data: bytes) -> tuple[Given, ...]:
    text = data.decode("utf-8").rstrip("\r\n")
    if not text or not text.isprintable():
        raise ValueError
    return (Given(name, text.encode("utf-8")),)


def _ssh(name: str, data: bytes) -> tuple[Given, ...]:
    load_ssh_private_key(data, password=None)
    return (Given(name, data),)


_KINDS = (
    _Kind(
        "certificate/SERVER/credentials",
        "an AWS credentials file: [default] with the aws_access_key_id (AKIA…) and the aws_secret_access_key "
        "of an IAM user",
        _credentials,
    ),
    _Kind(
        "cloudflare/SERVER",
        "the JSON that cloudflared tunnel create wrote: AccountTag, TunnelID and TunnelSecret",
        _tunnel,
    ),
    _Kind(
        f"tls/SERVER/{KEY}",
        "a certificate with its chain and its private key, all PEM, one after the other",
        _pair,
    ),
    _Kind("ssh/SERVER", "a private key of OpenSSH without a passphrase", _ssh),
    _Kind("import/NAME", "the password of an older account, one line", _password),
)
