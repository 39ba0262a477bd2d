"""S3 whose buckets outlive LocalStack.

After a restart LocalStack has no resources; the stack is deployed again, and a bucket that is created under
its old name has its objects back at once: all versions, with their ids, metadata and times, and without a
notification for any of them. Object tags are not kept. Files are written before a request is answered, and
not fsynced: they outlive the process, not the machine.

State: ``s3/<bucket>/bodies/<sha256 of key?version>`` and ``s3/<bucket>/objects/<sha256 of key>``, the pickled
versions of one key, oldest first.
"""

import hashlib
import os
import pickle
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.skeleton import create_dispatch_table
from localstack.services.plugins import Service, aws_provider
from localstack.services.s3.models import S3Bucket, VersionedKeyStore, s3_stores
from localstack.services.s3.provider import S3Provider

from twinmail_localstack import settings
from twinmail_localstack.object_store import INTERNAL, FileObjectStore

OBJECT_OPERATIONS = frozenset(
    {
        "CompleteMultipartUpload",
        "CopyObject",
        "DeleteObject",
        "PutObject",
        "PutObjectAcl",
        "PutObjectLegalHold",
        "PutObjectRetention",
        "RestoreObject",
    }
)
"""Operations that change the object they name."""


def changed_keys(operation: str, request: Mapping[str, Any], bucket: S3Bucket) -> Iterable[str]:
    """The keys of *bucket* whose versions an answered *request* may have changed."""
    if operation in OBJECT_OPERATIONS:
        return [request["Key"]]
    if operation == "DeleteObjects":
        return {one["Key"] for one in request["Delete"]["Objects"]}
    if operation in ("PostObject", "PutBucketVersioning"):
        # A form's key is in its body; versioning gives every object a version id.
        return list(bucket.objects._store)
    return []


class ObjectRecords:
    """The versions of objects on disk, one file a key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def save(self, bucket: S3Bucket, keys: Iterable[str]) -> None:
        """Write what *bucket* now holds under *keys*."""
        folder = self._bucket_folder(bucket.name)
        folder.mkdir(parents=True, exist_ok=True)
        for key in keys:
            path = folder / hashlib.sha256(key.encode()).hexdigest()
            # The lock is taken before the versions are read, so that the last writer writes the last state.
            with self._locks[bucket.name]:
                held = bucket.objects._store.get(key)
                versions = list(held.values()) if isinstance(held, dict) else [held] if held else []
                if not versions:
                    path.unlink(missing_ok=True)
                    continue
                draft = path.with_name(f".{path.name}.{os.getpid()}")
                draft.write_bytes(pickle.dumps(versions))
                draft.replace(path)

    def restore(self, bucket: S3Bucket) -> None:
        """Put everything that was saved for the bucket's name into the new *bucket*."""
        folder = self._bucket_folder(bucket.name)
        for path in sorted(folder.glob("[!.]*")):
            try:
                versions = pickle.loads(path.read_bytes())
            except (pickle.UnpicklingError, AttributeError, EOFError, ImportError, TypeError) as error:
                raise RuntimeError(
                    f"{path}: not readable by this version of LocalStack ({error}); "
                    "remove its state folder (./inv up --fresh)"
                ) from error
            if bucket.versioning_status is None and any(one.version_id for one in versions):
                bucket.versioning_status = "Enabled"
                bucket.objects = VersionedKeyStore.from_key_store(bucket.objects)
            for one in versions:
                current = one.is_current
                bucket.objects.set(one.key, one)
                one.is_current = current

    def _bucket_folder(self, bucket: str) -> Path:
        return self._folder / bucket / "objects"


def _bucket(context: RequestContext, name: str) -> S3Bucket | None:
    store = s3_stores[context.account_id][context.region]
    return store.buckets.get(name) if name and not name.startswith(INTERNAL) else None


def _recording(provider: S3Provider, records: ObjectRecords) -> dict[str, Callable[..., Any]]:
    """The provider's operations, each followed by the record of what it changed."""
    table = create_dispatch_table(provider)

    def wrap(operation: str, handle: Callable[..., Any]) -> Callable[..., Any]:
        def call(context: RequestContext, request: Any) -> Any:
            name = request.get("Bucket", "")
            known = _bucket(context, name) is not None
            response = handle(context, request)
            bucket = _bucket(context, name)
            if bucket is not None:
                if operation == "CreateBucket" and not known:
                    records.restore(bucket)
                records.save(bucket, changed_keys(operation, request, bucket))
            return response

        return call

    return {operation: wrap(operation, handle) for operation, handle in table.items()}


@aws_provider(api="s3", name="durable")  # type: ignore[untyped-decorator]
def s3() -> Service:
    """``PROVIDER_OVERRIDE_S3=durable``."""
    chosen = settings.current()
    folder = chosen.state / "s3"
    provider = S3Provider(FileObjectStore(folder, chosen.scratch / "s3"))
    records = ObjectRecords(folder)
    return Service.for_provider(provider, dispatch_table_factory=lambda one: _recording(one, records))
