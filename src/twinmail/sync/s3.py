"""The bucket in S3, read with obstore.

obstore takes 8 % of boto3's processor time for a GET. Its traps, met here: by default a request may hang for
minutes; one key with an empty or a dot segment fails a whole LIST; and it refuses plain http unless allowed,
whatever ``AWS_ENDPOINT_URL`` says.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import obstore
from botocore.config import Config as Settings
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import S3Store

from twinmail.layout import MANIFEST, LayoutError, ManifestKey, processed_key
from twinmail.manifest import METADATA
from twinmail.sync.aws import Aws
from twinmail.sync.source import ObjectMissing, SourceUnavailable

T = TypeVar("T")

PAGE = 1000
_PIECE = 1 << 20
# Requests at once. Far away (20 ms) most time is waiting; near, more than 16 wait for the interpreter's lock.
_NEAR, _FAR = 16, 128
_FAR_SECONDS = 0.01
# Objects whose listed digest is remembered: those of a page that is carried while the next one is listed.
_REMEMBERED = 4 * PAGE
# Messages that are in memory together, and guesses that are made before it is known whether they are right.
_MESSAGES_OCTETS = 16 << 20
_TRIES = 16
# A whole message may take long on a slow line; what must not is to wait for its next octet.
_REQUEST = timedelta(minutes=10)
_STALL = timedelta(seconds=20)
_CONNECT = timedelta(seconds=5)


def open_store(bucket: str, aws: Aws) -> S3Store:
    """*bucket* as obstore sees it, with time-outs that let an outage be noticed."""
    return S3Store(
        bucket,
        region=aws.region,
        credential_provider=aws.credentials(),
        client_options={
            # Permission, not choice: the scheme is the endpoint's, https unless a test's says http.
            "allow_http": True,
            "connect_timeout": _CONNECT,
            "read_timeout": _STALL,
            "timeout": _REQUEST,
        },
        # A short hiccup only; the syncer has its own patience for outages.
        retry_config={
            "max_retries": 2,
            "retry_timeout": timedelta(seconds=10),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
    )


def unavailable(bucket: str, error: Exception) -> SourceUnavailable:
    """What an *error* of the store means to the syncer."""
    # The first paragraph is for people; the rest is the library's inner state.
    text = " ".join(str(error).partition("\n\nDebug source:")[0].split())
    return SourceUnavailable(f"s3://{bucket}: {text}; check the network, the bucket and its permissions")


def bucket_is_gone(error: Exception) -> bool:
    """Whether "not found" is said of the bucket and not of an object in it."""
    return "<Code>NoSuchBucket</Code>" in str(error)


class _Guess:
    """Whether entries are found with their messages, and how much of these may be in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tried = self._right = 0
        self._room = _MESSAGES_OCTETS

    @property
    def likely(self) -> bool:
        """Imported messages have other keys, and old ones no metadata: few are tried for nothing."""
        return self._tried < _TRIES or 2 * self._right > self._tried

    def tell(self, right: bool) -> None:
        """Of one that was tried."""
        with self._lock:
            self._tried += 1
            self._right += right

    def room(self, size: int) -> bool:
        """Whether *size* octets more may be in memory, which are counted then."""
        with self._lock:
            fits = size <= self._room
            self._room -= size if fits else 0
            return fits


class S3Source:
    """The manifest and the messages in *bucket*; with another *prefix*, what is listed is under that."""

    def __init__(self, bucket: str, aws: Aws, prefix: str = MANIFEST) -> None:
        self.bucket = bucket
        self._prefix = prefix
        self._aws = aws
        self._store = open_store(bucket, aws)
        self._at_once = _NEAR
        # Of the entries listed last and not read since; whatever is not here costs one request more.
        self._etags: dict[str, str] = {}

    def keys_after(self, offset: str) -> Iterator[list[str]]:
        """Pages of keys; see `twinmail.sync.source.Source`."""
        last = offset
        try:
            for page in obstore.list(self._store, self._prefix, offset=offset, chunk_size=PAGE):
                keys = sorted(one["path"] for one in page)
                self._remember((one["path"], one["e_tag"]) for one in page)
                last = keys[-1] if keys else last
                yield keys
            return
        except InvalidPathError:
            # One odd key: list the rest with the SDK, which takes every key.
            pass
        except (BaseError, OSError) as error:
            raise unavailable(self.bucket, error) from error
        yield from self._sdk_keys_after(last)

    def _sdk_keys_after(self, offset: str) -> Iterator[list[str]]:
        settings = Settings(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
        try:
            client = self._aws.client("s3", settings)
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._prefix, StartAfter=offset
            )
            for page in pages:
                yield [one["Key"] for one in page.get("Contents", ())]
        except (BotoCoreError, ClientError) as error:
            raise unavailable(self.bucket, error) from error

    def _remember(self, listed: Iterable[tuple[str, str | None]]) -> None:
        if len(self._etags) > _REMEMBERED:
            self._etags.clear()
        self._etags.update((key, etag) for key, etag in listed if etag)

    def read(self, key: str) -> Iterator[bytes]:
        """The octets of an object; see `twinmail.sync.source.Source`."""
        try:
            result = obstore.get(self._store, key)
        except ValueError as error:
            # About this key alone: obstore does not take every key that S3 takes.
            raise ObjectMissing(f"s3://{self.bucket}/{key}: cannot be read: {error}") from error
        except (BaseError, OSError) as error:
            raise self._unread(key, error) from error
        try:
            for piece in result.stream(min_chunk_size=_PIECE):
                yield bytes(piece)
        except (BaseError, OSError) as error:
            raise self._unread(key, error) from error

    def each(self, keys: Sequence[str], most: int, take: Callable[[str, bytes], None]) -> None:
        """See `twinmail.sync.source.Source`."""
        for key, data in self._many(keys, lambda key: self._small(key, most)):
            take(key, data)

    def each_entry(
        self, keys: Sequence[str], most: int, take: Callable[[str, bytes, bytes | None], None]
    ) -> None:
        """See `twinmail.sync.source.Source`.

        The entry of a message is metadata of its object too (see `twinmail.manifest.Entry.to_metadata`). It
        is believed if it has the digest that the listing of the manifest told.
        """
        guess = _Guess()

        def read(key: str) -> tuple[bytes, bytes | None] | None:
            both = self._both(key, most, guess)
            if both is not None:
                return both
            entry = self._small(key, most)
            return None if entry is None else (entry, None)

        for key, (entry, message) in self._many(keys, read):
            take(key, entry, message)

    def _many(self, keys: Sequence[str], read: Callable[[str], T | None]) -> Iterator[tuple[str, T]]:
        """What *read* gives for each of *keys*, without those for which it gives None, in no order.

        Threads, each waiting for its own answer without the interpreter's lock: a GET takes 90 µs of
        processor time so, and 200 µs as a coroutine. Nothing is given before all is read: threads that wait
        for the lock while the caller has it cost more than they save.
        """
        waiting = iter(list(keys))
        found: list[tuple[str, T]] = []
        failures: list[BaseException] = []

        def some() -> None:
            try:
                for key in waiting:
                    if failures:
                        return
                    data = read(key)
                    if data is not None:
                        found.append((key, data))
            except BaseException as error:  # noqa: BLE001 - raised again below, by who asked
                failures.append(error)

        threads = [
            threading.Thread(target=some, name=f"read-{number}")
            for number in range(min(self._at_once, len(keys)))
        ]
        began = time.monotonic()
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        if threads:
            one_takes = (time.monotonic() - began) * len(threads) / len(keys)
            self._at_once = _FAR if one_takes > _FAR_SECONDS else _NEAR
        if failures:
            raise failures[0]
        found.reverse()
        while found:
            yield found.pop()

    def _both(self, key: str, most: int, guess: "_Guess") -> tuple[bytes, bytes | None] | None:
        """The entry *key* and its message out of one object; None if they are not found there."""
        etag = self._etags.pop(key, None)
        if etag is None or not guess.likely:
            return None
        try:
            named = ManifestKey.parse(key)
            # Where it is if it arrived on the day on which it was committed.
            path = processed_key(named.ses_id, named.committed)
            found = obstore.get(self._store, path, options={"range": (0, most + 1)})
            told = found.attributes.get(METADATA, "").encode()
            # S3's tag of an object that was put in one piece, without a key of KMS, is its MD5.
            same = hashlib.md5(told, usedforsecurity=False).hexdigest() == etag.strip('"')
            guess.tell(same)
            if not same:
                return None
            size = found.meta["size"]
            fits = size <= most and guess.room(size)
            return told, (bytes(found.bytes()) if fits else None)
        except LayoutError:
            return None
        except (BaseError, OSError):
            # An outage is met by who reads the entry alone; S3 may also say "forbidden" of what is not there.
            guess.tell(False)
            return None

    def _small(self, key: str, most: int) -> bytes | None:
        """The object *key*; None if it is absent or has more than *most* octets."""
        try:
            data = obstore.get_range(self._store, key, start=0, length=most + 1)
            return bytes(data) if len(data) <= most else None
        except ValueError:
            # obstore does not take every key that S3 takes; who reads it alone is told.
            return None
        except (BaseError, OSError) as error:
            if "InvalidRange" in str(error):
                # Nothing is all there is of an empty object.
                return b""
            failure = self._unread(key, error)
            if isinstance(failure, SourceUnavailable):
                raise failure from error
            return None

    def _unread(self, key: str, error: Exception) -> SourceUnavailable | ObjectMissing:
        if isinstance(error, FileNotFoundError) and not bucket_is_gone(error):
            return ObjectMissing(f"s3://{self.bucket}/{key}: there is no such object")
        return unavailable(self.bucket, error)
