"""The compactor holds some pieces of what it packs, however much that is."""

import hashlib
import io
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.cloud import CONFIG
from twinmail.layout import manifest_key, processed_key
from twinmail.manifest import Entry
from twinmail.packs.compactor import Compactor

START = datetime(2026, 6, 1, tzinfo=UTC)
MB = 1 << 20
LARGE, SMALL, COUNT = 30 * MB, 100_000, 900


class Body(io.BytesIO):
    """As botocore's."""

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        while piece := self.read(size):
            yield piece


class Messages:
    """An S3 client with messages that are made when they are read; packs are in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes = {number: LARGE if number % 300 == 7 else SMALL for number in range(COUNT)}
        large, small = (hashlib.sha256(b"x" * size).hexdigest() for size in (LARGE, SMALL))
        self._digest = {LARGE: large, SMALL: small}
        self.written = 0

    def get_paginator(self, name: str) -> Any:
        return self

    def paginate(self, Bucket: str, Prefix: str, StartAfter: str = "") -> Iterator[Any]:
        if Prefix == "manifest/":
            yield {"Contents": [{"Key": self._key(one), "LastModified": START} for one in self._sizes]}

    def get_object(self, Bucket: str, Key: str) -> Any:
        if Key.startswith("packs/"):
            path = self._path(Key)
            if not path.exists():
                raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
            return {"Body": Body(path.read_bytes()) if path.suffix == ".json" else _File(path)}
        number = int(Key.rpartition("id")[2].partition(".")[0])
        size = self._sizes[number]
        if Key.startswith("processed/"):
            return {"Body": _Made(size)}
        name = processed_key(f"id{number}", START)
        entry = Entry(f"id{number}", name, size, self._digest[size], START, "", (), ())
        return {"Body": Body(entry.to_bytes())}

    def head_object(self, Bucket: str, Key: str) -> Any:
        return {"ContentLength": self._path(Key).stat().st_size}

    def put_object(self, Bucket: str, Key: str, Body: Any, **options: Any) -> None:
        with self._path(Key).open("wb") as file:
            if isinstance(Body, bytes):
                file.write(Body)
                return
            while piece := Body.read(MB):
                self.written += file.write(piece)

    def put_object_tagging(self, **options: Any) -> None:
        pass

    def _key(self, number: int) -> str:
        return manifest_key(f"id{number}", START + timedelta(minutes=number))

    def _path(self, key: str) -> Path:
        return self._folder / key.replace("/", "-")


class _Made:
    """A body of *size* octets that are nowhere."""

    def __init__(self, size: int) -> None:
        self._left = size

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        while self._left:
            piece = min(size, self._left)
            self._left -= piece
            yield b"x" * piece


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while piece := file.read(size):
                yield piece


def test_memory_does_not_grow_with_what_is_packed(tmp_path: Path) -> None:
    client = Messages(tmp_path)
    tracemalloc.start()
    try:
        done = Compactor(CONFIG, client, START + timedelta(days=200)).run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (done.entries, done.broken, done.whole) == (COUNT, [], True)
    assert client.written == done.octets > 170 * MB
    assert peak < 32 * MB
