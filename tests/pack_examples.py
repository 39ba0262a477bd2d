"""Packs as the compactor lays them out, made of given entries and messages."""

import hashlib
from collections.abc import Mapping

from twinmail.layout import ManifestKey, packs_key
from twinmail.manifest import Entry
from twinmail.packs.pack_index import PackedEntry, PackIndex, Range


def pack(entries: Mapping[str, bytes], messages: Mapping[str, bytes]) -> tuple[PackIndex, bytes]:
    """The pack of *entries* (octets by manifest key), each of which names one of *messages* by its key."""
    keys = sorted(entries)
    named = {key: Entry.from_bytes(entries[key]).key for key in keys}
    octets = bytearray()
    ranges: dict[str, Range] = {}
    parts = [*((key, entries[key]) for key in keys), *((one, messages[one]) for one in named.values())]
    for key, data in parts:
        if key not in ranges:
            ranges[key] = Range(key, len(octets), len(data), hashlib.sha256(data).hexdigest())
            octets += data
    data = bytes(octets)
    sha256 = hashlib.sha256(data).hexdigest()
    packed = tuple(PackedEntry(ranges[key], ranges[named[key]]) for key in keys)
    first = ManifestKey.parse(keys[0]).committed.date()
    return PackIndex(packs_key(first, sha256), len(data), sha256, packed), data
