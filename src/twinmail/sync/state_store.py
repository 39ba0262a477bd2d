"""What the servers share besides the log: small objects under ``state/``, written only if nobody else did.

Two servers may write the same object at once. Every write names what it expects to be there (S3's conditional
writes: If-None-Match and If-Match), so that one of them is told to read again and decide anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from twinmail.errors import TransientError
from twinmail.sync.aws import Aws
from twinmail.sync.s3 import bucket_is_gone, open_store, unavailable


class Conflict(TransientError):
    """Somebody else wrote the object first; read it again."""


@dataclass(frozen=True)
class Stored:
    """An object as it was read.

    Attributes:
        etag: what S3 tells versions apart by; for `StateStore.replace`.
    """

    data: bytes
    etag: str


class StateStore(Protocol):
    """The objects under ``state/``."""

    def get(self, key: str) -> Stored | None:
        """The object *key*, or None if there is none.

        Raises:
            SourceUnavailable.
        """

    def create(self, key: str, data: bytes) -> str:
        """Write *key*, which must not exist yet, and return its etag.

        Raises:
            Conflict: it exists, or is being written.
            SourceUnavailable: whether it was written is not known.
        """

    def replace(self, key: str, data: bytes, etag: str) -> str:
        """Write *key*, which must still be the version *etag*, and return the new etag.

        Raises:
            Conflict: it is another version, or gone.
            SourceUnavailable: whether it was written is not known.
        """

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """The keys that start with *prefix* and sort after *after*, in order.

        Raises:
            SourceUnavailable: also while iterating.
        """

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The keys that start with *prefix*, each with its etag: what changed, for the price of one LIST.

        Raises:
            SourceUnavailable: also while iterating.
        """


class S3StateStore:
    """A `StateStore` in *bucket*."""

    def __init__(self, bucket: str, aws: Aws) -> None:
        self.bucket = bucket
        self._store: S3Store = open_store(bucket, aws)

    def get(self, key: str) -> Stored | None:
        """See `StateStore`."""
        try:
            result = obstore.get(self._store, key)
            return Stored(bytes(result.bytes()), result.meta["e_tag"] or "")
        except (BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError) and not bucket_is_gone(error):
                return None
            raise unavailable(self.bucket, error) from error

    def create(self, key: str, data: bytes) -> str:
        """See `StateStore`."""
        try:
            return obstore.put(self._store, key, data, mode="create", use_multipart=False)["e_tag"] or ""
        except AlreadyExistsError as error:
            raise Conflict(f"s3://{self.bucket}/{key}: exists") from error
        except (BaseError, OSError) as error:
            raise self._unwritten(key, error) from error

    def replace(self, key: str, data: bytes, etag: str) -> str:
        """See `StateStore`."""
        try:
            result = obstore.put(self._store, key, data, mode={"e_tag": etag}, use_multipart=False)
            return result["e_tag"] or ""
        except (PreconditionError, FileNotFoundError) as error:
            if bucket_is_gone(error):
                raise unavailable(self.bucket, error) from error
            raise Conflict(f"s3://{self.bucket}/{key}: expected version {etag}, got another") from error
        except (BaseError, OSError) as error:
            raise self._unwritten(key, error) from error

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """See `StateStore`."""
        try:
            for page in obstore.list(self._store, prefix, offset=after or None):
                yield from sorted(one["path"] for one in page)
        except (BaseError, OSError) as error:
            raise unavailable(self.bucket, error) from error

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        """See `StateStore`."""
        try:
            for page in obstore.list(self._store, prefix):
                yield from ((one["path"], one["e_tag"] or "") for one in page)
        except (BaseError, OSError) as error:
            raise unavailable(self.bucket, error) from error

    def _unwritten(self, key: str, error: Exception) -> TransientError:
        # S3 answers two conditional writes at the same moment with 409 to one of them.
        if "ConditionalRequestConflict" in str(error):
            return Conflict(f"s3://{self.bucket}/{key}: is being written")
        return unavailable(self.bucket, error)
