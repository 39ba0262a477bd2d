"""The packs of a log in memory, behind the syncer's own interface."""

from collections.abc import Iterator

from tests.log_simulator import LogSimulator
from tests.pack_examples import pack
from twinmail.layout import MANIFEST, PACKS
from twinmail.manifest import Entry
from twinmail.packs.pack_index import PackIndex
from twinmail.sync.source import ObjectMissing


class PacksSimulator:
    """Packs among the objects of *log*.

    Attributes:
        requests: what was asked for, in order: keys, and prefixes that were listed.
    """

    def __init__(self, log: LogSimulator) -> None:
        self.log = log
        self.requests: list[str] = []

    def fold(self, keys: list[str], originals: bool = False) -> PackIndex:
        """Pack the entries *keys* with their messages; *originals* says whether these stay."""
        objects = self.log.objects
        entries = {key: objects[key] for key in keys}
        named = {Entry.from_bytes(data).key for data in entries.values()}
        index, octets = pack(entries, {key: objects[key] for key in named})
        objects |= {index.key: octets, index.index_key: index.to_bytes()}
        for key in () if originals else (*keys, *named):
            del objects[key]
        return index

    def fold_all(self, each: int = 10_000, originals: bool = False) -> list[PackIndex]:
        """Pack the whole log, *each* entries in a pack."""
        keys = sorted(key for key in self.log.objects if key.startswith(MANIFEST))
        return [self.fold(keys[at : at + each], originals) for at in range(0, len(keys), each)]

    def keys_after(self, offset: str) -> Iterator[list[str]]:
        self.requests.append(PACKS)
        self._fail()
        yield sorted(key for key in self.log.objects if key.startswith(PACKS) and key > offset)

    def read(self, key: str) -> Iterator[bytes]:
        yield bytes(self.read_range(key, 0, 1 << 40))

    def read_range(self, key: str, start: int, end: int) -> memoryview:
        self.requests.append(key)
        self._fail()
        if key not in self.log.objects:
            raise ObjectMissing(f"{key}: there is no such object")
        return memoryview(self.log.objects[key][start:end])

    def _fail(self) -> None:
        if self.log.fault is not None:
            raise self.log.fault
