"""What packs are made of: read with proof, and tagged when it is packed. Nothing is deleted here."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from twinmail.errors import PermanentError
from twinmail.layout import PROCESSED, QUARANTINE, ManifestKey
from twinmail.manifest import Entry, ManifestError
from twinmail.packs.pack_index import PackIndex
from twinmail.packs.plan import Candidate
from twinmail.packs.unpacked import Listed

AT_ONCE = 16
"""Requests at once; what is read holds at most as many pieces of `PIECE` octets."""

PIECE = 1 << 20
"""Octets of a message that is read as a whole; of a larger one, pieces."""

TAG = {"TagSet": [{"Key": "packed", "Value": "true"}]}
"""What the lifecycle rule of ``lambda/stack.yaml`` looks for."""

GONE = ("NoSuchKey", "NoSuchVersion", "NotFound", "404")
# About this object alone; anything else is about the service or our rights, and ends the turn.
_UNREADABLE = (*GONE, "InvalidObjectState")
_ATTEMPTS = 3


One = TypeVar("One")
Result = TypeVar("Result")


class Broken(PermanentError):
    """An entry or its message is missing or damaged; the text begins with the key."""


class OutOfTime(Exception):
    """The turn must end; what is half done is done again in the next."""


@dataclass(frozen=True)
class Originals:
    """The objects of *bucket*, through a boto3 S3 client.

    Args:
        in_time: whether there is time for more.
    """

    s3: Any
    bucket: str
    in_time: Callable[[], bool]

    def candidates(self, listed: Iterable[Listed], broken: Callable[[Broken], None]) -> Iterator[Candidate]:
        """The entries *listed*, in their order; *broken* hears of those that are none.

        Raises:
            OutOfTime: see there.
            botocore.exceptions.ClientError: S3 refuses, or is not to be had.
        """
        for result in self._in_order(self._candidate, listed):
            if isinstance(result, Broken):
                broken(result)
            elif result is not None:
                yield result

    def copy(self, wanted: Iterable[Candidate], to: IO[bytes]) -> Iterator[tuple[Candidate, Broken | None]]:
        """Write the messages that *wanted* name to the end of *to*, each key once, in their order.

        Gives one entry a message, and why its message is not in *to*.

        Raises:
            OutOfTime: see there.
            botocore.exceptions.ClientError: S3 refuses, or is not to be had.
        """
        distinct = list({one.message: one for one in wanted}.values())
        for one, read in zip(distinct, self._in_order(self._small, distinct), strict=True):
            if isinstance(read, bytes):
                to.write(read)
                yield one, None
            else:
                yield one, self._large(one, to) if read is None else read

    def tag(self, index: PackIndex) -> int:
        """Tag the originals of *index*, which may be tagged or gone; how many are tagged now.

        Raises:
            OutOfTime: see there.
            botocore.exceptions.ClientError: S3 refuses, or is not to be had.
        """
        keys = [*(one.key for one in index.entries), *(one.key for one in index.messages())]
        return sum(self._in_order(self._tag, keys))

    def _candidate(self, listed: Listed) -> Candidate | Broken | None:
        try:
            octets = self._entry(listed.key)
            entry = Entry.from_bytes(octets)
        except ClientError as error:
            if error.response["Error"]["Code"] not in GONE:
                raise
            # Listed and gone since: an operator, or the lifecycle rule, which only takes what is packed.
            return None
        except ManifestError as error:
            return Broken(f"{listed.key}: {error}")
        if ManifestKey.parse(listed.key).ses_id != entry.ses_id:
            return Broken(f"{listed.key}: manifest entry: ses_id: expected as in its key, got {entry.ses_id}")
        if not entry.key.startswith((PROCESSED, QUARANTINE)):
            return Broken(f"{listed.key}: manifest entry: key: expected a message, got {entry.key!r}")
        return Candidate(listed.key, octets, listed.written, entry.key, entry.size, entry.sha256)

    def _entry(self, key: str) -> bytes:
        """The octets of an entry: at most some kilobytes."""
        for attempt in range(_ATTEMPTS):
            try:
                body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                return body
            except (HTTPClientError, IncompleteReadError, OSError):
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError(key)

    def _small(self, one: Candidate) -> bytes | Broken | None:
        """The message of *one*, or None if it is large."""
        if one.size > PIECE:
            return None
        body = io.BytesIO()
        failure = self._large(one, body)
        return failure or body.getvalue()

    def _large(self, one: Candidate, to: IO[bytes]) -> Broken | None:
        """Write the message of *one* to the end of *to*; on failure nothing of it."""
        start = to.tell()
        for attempt in range(_ATTEMPTS):
            to.seek(start)
            to.truncate()
            try:
                self._pieces(one, to)
                return None
            except Broken as error:
                failure = error
                break
            except (HTTPClientError, IncompleteReadError, OSError) as error:
                # botocore repeats requests, and not the reading of their answers.
                failure = Broken(f"{one.message}: not read in {attempt + 1} attempts: {error}")
        to.seek(start)
        to.truncate()
        return Broken(f"{failure} (named by {one.key})")

    def _pieces(self, one: Candidate, to: IO[bytes]) -> None:
        digest, size = hashlib.sha256(), 0
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=one.message)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in _UNREADABLE:
                raise
            raise Broken(f"{one.message}: expected a message, got {code}") from error
        for piece in answer["Body"].iter_chunks(PIECE):
            digest.update(piece)
            size += to.write(piece)
            if size > one.size:
                break
        if size != one.size or digest.hexdigest() != one.sha256:
            raise Broken(
                f"{one.message}: expected {one.size} octets with sha256 {one.sha256}, "
                f"got {size} with {digest.hexdigest()}"
            )

    def _tag(self, key: str) -> int:
        try:
            self.s3.put_object_tagging(Bucket=self.bucket, Key=key, Tagging=TAG)
        except ClientError as error:
            if error.response["Error"]["Code"] not in (*GONE, "MethodNotAllowed"):
                raise
            # The lifecycle rule has taken it: the newest version is a mark of deletion.
            return 0
        return 1

    def _in_order(self, work: Callable[[One], Result], items: Iterable[One]) -> Iterator[Result]:
        """*work* on each of *items*, `AT_ONCE` at a time, in their order."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting: deque[Future[Result]] = deque()
            try:
                for one in items:
                    if not self.in_time():
                        raise OutOfTime
                    waiting.append(pool.submit(work, one))
                    if len(waiting) >= AT_ONCE:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
