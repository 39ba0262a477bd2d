"""What packs add to the audit: the messages in them, and whether they are what their indexes say."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice

from twinmail.audit.finding import Finding, Kind
from twinmail.audit.listings import SLACK
from twinmail.audit.tally import Mark, Part
from twinmail.layout import ManifestKey
from twinmail.packs.archive import Archive
from twinmail.packs.pack_index import PackIndex
from twinmail.packs.shelf import Shelf

_SHOWN = 3


def packed(archive: Archive, since: datetime | None) -> Iterator[Mark]:
    """Packed entries that were committed since then, and their messages: the originals may have expired."""
    for key in archive.keys((since - SLACK).date() if since else None):
        yield Mark(ManifestKey.parse(key).ses_id, Part.LOGGED | Part.PROCESSED, key)


def findings(
    archive: Archive, since: datetime | None, every_octet: bool, say: Callable[[str], None]
) -> Iterator[Finding]:
    """Packs that are not there, have another size or, with *every_octet*, have other octets.

    Raises:
        botocore.exceptions.ClientError: S3 refused or was not available.
    """
    damaged: list[str] = []
    count = 0
    for index in archive.indexes((since - SLACK).date() if since else None, damaged.append):
        count += 1
        yield from _broken(archive, index, every_octet)
    for text in damaged:
        yield Finding(text.partition(": ")[0], Kind.BROKEN_PACK, text)
    say(f"{count + len(damaged):,} packs")


def _broken(archive: Archive, index: PackIndex, every_octet: bool) -> Iterator[Finding]:
    shelf = Shelf(archive.s3, archive.bucket)
    if not shelf.has_whole(index):
        expected = f"expected {index.size} octets"
        yield Finding(index.key, Kind.BROKEN_PACK, f"{index.key}: {expected}, it is not there or has others")
    elif every_octet:
        for difference in islice(index.differences(shelf.pieces(index)), _SHOWN):
            yield Finding(index.key, Kind.BROKEN_PACK, difference)
