"""The bytes of S3 objects as files, which outlive the process.

The stock store keeps bodies in memory and in deleted files under one fixed folder that all LocalStacks of a
machine share. Here a body is a file of its own, replaced atomically, so a reader never sees half of it.
"""

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from localstack.services.s3.models import S3Object
from localstack.services.s3.storage.ephemeral import (
    EphemeralS3ObjectStore,
    EphemeralS3StoredObject,
    LockedFileMixin,
)

INTERNAL = "awslambda-"
"""Buckets with this prefix hold LocalStack's own copies of function code and do not outlive the process."""


class _File(LockedFileMixin, io.FileIO):  # type: ignore[misc]
    """One open file; the locks that the stock class expects have nobody to keep out."""


class StoredObject(EphemeralS3StoredObject):  # type: ignore[misc]
    """One open body. What is written appears under *path* when it is complete."""

    def __init__(self, s3_object: S3Object, path: Path, mode: Literal["r", "w"]) -> None:
        self._path = path
        self._draft: Path | None = None
        if mode == "w":
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
            self._draft = Path(name)
            file = _File(descriptor, "w+b")
        else:
            file = _File(path, "rb")
        super().__init__(s3_object=s3_object, file=file, mode=mode)
        self._modified = os.fstat(file.fileno()).st_mtime_ns

    def write(self, stream: Any) -> int:
        """Write all of *stream* and publish it; the caller lists the object only after this returns."""
        size: int = super().write(stream)
        self._publish()
        return size

    def append(self, part: Any) -> int:
        """Append one part of a multipart upload; all of them are published by `close`."""
        self._appended = True
        self.file.seek(0, io.SEEK_END)
        size: int = super().append(part)
        return size

    def close(self) -> None:
        """Publish appended parts; drop a draft that was never completed."""
        if self.closed:
            return
        if self._draft is not None and getattr(self, "_appended", False):
            self._publish()
        if self._draft is not None:
            self._draft.unlink(missing_ok=True)
        self.file.close()
        super().close()

    @property
    def last_modified(self) -> int:
        """When the body was written, Unix nanoseconds."""
        return self._modified

    def _publish(self) -> None:
        if self._draft is not None:
            # The provider compares this time with the object's: where they differ it takes the newest object,
            # and a reader would get the length of one version with the octets of another.
            self._modified = self.s3_object.internal_last_modified
            os.utime(self.file.fileno(), ns=(self._modified, self._modified))
            self._draft.replace(self._path)
            self._draft = None


class FileObjectStore(EphemeralS3ObjectStore):  # type: ignore[misc]
    """Bodies below *folder*, uploads in parts and internal buckets below *scratch*."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        super().__init__(str(scratch / "uploads"))
        self._folder = folder
        self._scratch = scratch / "internal"

    def bucket_folder(self, bucket: str) -> Path:
        """Where the bodies of *bucket* are."""
        return (self._scratch if bucket.startswith(INTERNAL) else self._folder) / bucket / "bodies"

    def create_bucket(self, bucket: str) -> None:
        """Make room; bodies that an earlier process left are kept."""
        folder = self.bucket_folder(bucket)
        folder.mkdir(parents=True, exist_ok=True)
        for draft in folder.glob(".*"):
            draft.unlink()
        super().create_bucket(bucket)

    def delete_bucket(self, bucket: str) -> None:
        """Remove the (empty) bucket's folders."""
        shutil.rmtree(self.bucket_folder(bucket).parent, ignore_errors=True)
        shutil.rmtree(Path(self.root_directory) / bucket, ignore_errors=True)
        self._filesystem.pop(bucket, None)

    def open(self, bucket: str, s3_object: S3Object, mode: Literal["r", "w"] = "r") -> StoredObject:
        """Open the body of one version of an object."""
        return StoredObject(s3_object, self._path(bucket, s3_object), mode)

    def remove(self, bucket: str, s3_object: S3Object | list[S3Object]) -> None:
        """Delete bodies; one that is being read stays readable for its reader."""
        for one in s3_object if isinstance(s3_object, list) else [s3_object]:
            with contextlib.suppress(FileNotFoundError):
                self._path(bucket, one).unlink()

    def close(self) -> None:
        """Keep everything: the next process goes on from these files."""

    def reset(self) -> None:
        """Delete everything."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, bucket: str, s3_object: S3Object) -> Path:
        name = f"{s3_object.key}?{s3_object.version_id or 'null'}"
        return self.bucket_folder(bucket) / hashlib.sha256(name.encode()).hexdigest()
