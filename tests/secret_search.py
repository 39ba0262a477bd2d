"""Looks for secrets in octets: what has the shape of a key, and what a system is known to keep secret."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_PATTERNS = re.compile(
    # An access key of AWS, but for those of its documentation.
    rb"(?<![A-Z0-9])(?:AKIA|ASIA)(?![A-Z0-9]*EXAMPLE)[A-Z2-7]{16}(?![A-Z0-9])"
    # A private key with its content, not only the words.
    rb"|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}"
    rb"|aws_secret_access_key\s*=\s*(?![A-Za-z0-9/+]*EXAMPLE)[A-Za-z0-9/+]{40}"
)
_CHUNK, _OVERLAP = 4 * 1024 * 1024, 4096
# Shorter ones may be there by chance.
_SHORTEST = 12


class Secrets:
    """What to look for besides shapes: *values*, each known to be secret."""

    def __init__(self, values: Iterable[bytes] = ()) -> None:
        self.values = sorted({one for one in values if len(one) >= _SHORTEST})
        self._known = re.compile(b"|".join(map(re.escape, self.values))) if self.values else None

    def found(self, data: bytes) -> list[str]:
        """What is in *data*: shapes by their beginning, known values by their number."""
        hits = [one.group()[:32].decode("ascii", "replace") for one in _PATTERNS.finditer(data)]
        if self._known is not None:
            hits += [f"secret {self.values.index(one.group())}" for one in self._known.finditer(data)]
        return hits

    def found_in(self, stream: BinaryIO) -> list[str]:
        """The same in *stream*, however long it is."""
        hits: list[str] = []
        tail = b""
        while chunk := stream.read(_CHUNK):
            hits += self.found(tail + chunk)
            tail = chunk[-_OVERLAP:]
        return list(dict.fromkeys(hits))


def values(data: bytes) -> Iterator[bytes]:
    """The values in a file that holds secrets: JSON, an AWS credentials file, PEM, or one secret alone."""
    text = data.strip()
    if b"PRIVATE KEY" in text:
        # Any line says which key it is.
        yield from (line for line in text.splitlines() if len(line) >= 40 and not line.startswith(b"-"))
    elif text.startswith((b"{", b"[{")):
        yield from _strings(json.loads(text))
    elif text.startswith(b"["):
        yield from (line.partition(b"=")[2].strip() for line in text.splitlines() if b"secret" in line)
    else:
        yield text


def kept_in(folder: Path) -> Iterator[bytes]:
    """The values of all files below *folder* that hold secrets and nothing else."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield from values(path.read_bytes())


def _strings(document: object, name: str = "") -> Iterator[bytes]:
    if isinstance(document, dict):
        for key, one in document.items():
            yield from _strings(one, str(key).lower())
    elif isinstance(document, list):
        for one in document:
            yield from _strings(one, name)
    elif isinstance(document, str) and any(word in name for word in ("pass", "secret", "key")):
        yield document.encode()
