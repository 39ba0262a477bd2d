"""The same bucket with its days in packs, made by the compactor itself, on files instead of S3."""

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from twinmail.config import Config
from twinmail.packs.compactor import Compactor

_WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)


def pack(plain: Path, packed: Path, config: Config) -> int:
    """Have *packed* hold the bucket *plain*, and packs of it; returns how many entries are in packs."""
    shutil.copytree(plain, packed, copy_function=os.link)
    return Compactor(config, FolderClient(packed), datetime.now(UTC)).run().entries


@dataclass(frozen=True)
class FolderClient:
    """What the compactor asks of a boto3 S3 client, of a bucket that is the folder *bucket*."""

    bucket: Path

    def get_paginator(self, _: str) -> "FolderClient":
        """Of ListObjectsV2."""
        return self

    def paginate(self, Bucket: str, Prefix: str, StartAfter: str = "") -> Iterator[Mapping[str, Any]]:
        """All keys on one page."""
        paths = (path for path in (self.bucket / Prefix).rglob("*") if path.is_file())
        keys = sorted(str(path.relative_to(self.bucket)) for path in paths)
        yield {"Contents": [{"Key": key, "LastModified": _WRITTEN} for key in keys if key > StartAfter]}

    def get_object(self, Bucket: str, Key: str) -> Mapping[str, Any]:
        """The body alone."""
        try:
            return {"Body": _Body((self.bucket / Key).read_bytes())}
        except FileNotFoundError as error:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject") from error

    def head_object(self, Bucket: str, Key: str) -> Mapping[str, Any]:
        """The size alone."""
        return {"ContentLength": (self.bucket / Key).stat().st_size}

    def put_object(self, Bucket: str, Key: str, Body: Any, **_: str) -> None:
        """Write *Body*, octets or a file."""
        path = self.bucket / Key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Body if isinstance(Body, bytes) else Body.read())

    def put_object_tagging(self, **_: str) -> None:
        """Nothing: files have no tags."""


class _Body(io.BytesIO):
    def iter_chunks(self, size: int) -> Iterator[bytes]:
        return iter(lambda: self.read(size), b"")
