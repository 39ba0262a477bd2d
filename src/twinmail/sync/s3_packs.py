"""The packs in S3, read with obstore."""

import obstore
from obstore.exceptions import BaseError

from twinmail.layout import PACKS
from twinmail.sync.aws import Aws
from twinmail.sync.s3 import S3Source


class S3Packs(S3Source):
    """The packs in *bucket*; see `twinmail.sync.pack_catalog.Packs`."""

    def __init__(self, bucket: str, aws: Aws) -> None:
        super().__init__(bucket, aws, PACKS)

    def read_range(self, key: str, start: int, end: int) -> memoryview:
        """The octets from *start* to before *end*: fewer if the object is shorter, none if it ends before."""
        try:
            return memoryview(obstore.get_range(self._store, key, start=start, end=end))
        except (BaseError, OSError) as error:
            if "InvalidRange" in str(error):
                return memoryview(b"")
            raise self._unread(key, error) from error
