"""Where packs are: objects under ``packs/``, each written so that repeating it changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import IO, Any

from botocore.exceptions import ClientError

from twinmail import layout, versioned_json
from twinmail.errors import TransientError
from twinmail.layout import LayoutError, ManifestKey, PackKey
from twinmail.packs.pack_index import PackIndex, PackIndexError

VERSION = 1
"""Of the cursor."""

PIECE = 1 << 20
"""Octets of a pack that are held while it is read."""

_GONE = ("NoSuchKey", "NotFound", "404")
_REFUSED = ("PreconditionFailed", "ConditionalRequestConflict")
_SHOWN = 3


class PackDamaged(TransientError):
    """What is stored is not what was written; without an index it counts for nothing."""


@dataclass(frozen=True)
class Shelf:
    """The packs in *bucket*, through a boto3 S3 client."""

    s3: Any
    bucket: str

    def every_key(self) -> Iterator[PackKey]:
        """Of packs, indexes and marks."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=layout.PACKS)
        for one in (one for page in pages for one in page.get("Contents", ())):
            try:
                yield PackKey.parse(one["Key"])
            except LayoutError:
                continue

    def index(self, key: PackKey) -> PackIndex | None:
        """The index at *key*; None if there is none.

        Raises:
            PackIndexError: it is damaged; the text begins with its key.
        """
        octets = self._read(key.index)
        if octets is None:
            return None
        try:
            index = PackIndex.from_bytes(octets)
        except PackIndexError as error:
            raise PackIndexError(f"{key.index}: {error}") from error
        if index.key != key.pack:
            raise PackIndexError(f"{key.index}: expected the index of {key.pack}, got that of {index.key}")
        return index

    def put(self, index: PackIndex, octets: IO[bytes]) -> None:
        """Write *octets*, the pack of *index*, and read it back as it is stored.

        Whatever has its name and no index is this pack, or part of nothing.

        Raises:
            PackDamaged: what is stored is something else.
        """
        octets.seek(0)
        self.s3.put_object(
            Bucket=self.bucket, Key=index.key, Body=octets, ContentType="application/octet-stream"
        )
        differences = tuple(islice(index.differences(self.pieces(index)), _SHOWN))
        if differences:
            raise PackDamaged(f"{index.key}: read back: {'; '.join(differences)}; it is packed again")

    def pieces(self, index: PackIndex) -> Iterator[bytes]:
        """The octets of the pack of *index*, as they are stored."""
        pieces: Iterator[bytes] = self.s3.get_object(Bucket=self.bucket, Key=index.key)["Body"].iter_chunks(
            PIECE
        )
        return pieces

    def commit(self, index: PackIndex) -> None:
        """Write *index*, once: from then on its pack counts.

        Raises:
            PackDamaged: there is another index under its name.
        """
        try:
            self.s3.put_object(
                Bucket=self.bucket,
                Key=index.index_key,
                Body=index.to_bytes(),
                ContentType="application/json",
                IfNoneMatch="*",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] not in _REFUSED:
                raise
            if self._read(index.index_key) != index.to_bytes():
                raise PackDamaged(f"{index.index_key}: is there already, and names other entries") from error

    def has_whole(self, index: PackIndex) -> bool:
        """Whether the pack of *index* is there, with all its octets."""
        try:
            size: int = self.s3.head_object(Bucket=self.bucket, Key=index.key)["ContentLength"]
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return False
            raise
        return size == index.size

    def mark(self, index: PackIndex) -> None:
        """Remember that all originals of *index* are tagged."""
        key = PackKey.parse(index.key).mark(ManifestKey.parse(index.last).committed.date())
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"")

    def cursor(self) -> date | None:
        """The day before which everything was packed at the end of an earlier turn; None is not known."""
        octets = self._read(layout.PACKS_CURSOR)
        try:
            return None if octets is None else date.fromisoformat(versioned_json.read(octets, VERSION)["day"])
        except (ValueError, KeyError, TypeError):
            return None

    def move_cursor(self, day: date) -> None:
        """Remember *day*."""
        document = versioned_json.write({"version": VERSION, "day": day.isoformat()})
        self.s3.put_object(
            Bucket=self.bucket, Key=layout.PACKS_CURSOR, Body=document, ContentType="application/json"
        )

    def _read(self, key: str) -> bytes | None:
        try:
            body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return None
            raise
        return body
