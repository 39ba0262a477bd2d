"""Which entries of the log are in no pack: a listing against the indexes of all packs. Pure.

Both may be of any size. A listing is in the order of its keys, and the key of an index says the day of its
first entry, so only the indexes that can have the entry just listed are held, as numbers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from twinmail.layout import LayoutError, ManifestKey, PackKey
from twinmail.packs.pack_index import PackIndex


@dataclass(frozen=True)
class Listed:
    """An object of the log, as a listing shows it.

    Attributes:
        written: the day on which it was written, UTC.
    """

    key: str
    written: date


def unpacked(
    listed: Iterable[Listed], packs: Iterable[PackKey], read: Callable[[PackKey], PackIndex | None]
) -> Iterator[Listed]:
    """Those *listed* (in the order of their keys) that are in none of *packs*.

    *read* gets the index of a pack, or None if it cannot be read: that counts for nothing. What is no entry
    (a console makes "folders": objects whose key ends with a slash) is left out.
    """
    ahead = sorted(packs, key=lambda one: one.first, reverse=True)
    held: list[tuple[str, frozenset[int]]] = []
    for one in listed:
        try:
            day = ManifestKey.parse(one.key).committed.date()
        except LayoutError:
            continue
        while ahead and ahead[-1].first <= day:
            index = read(ahead.pop())
            if index is not None:
                # Numbers take a third of the memory. Two keys with one number (of a million entries, once in
                # 10^7) leave an entry unpacked, which is no loss.
                held.append((index.last, frozenset(hash(entry.key) for entry in index.entries)))
        held = [(last, keys) for last, keys in held if last >= one.key]
        if not any(hash(one.key) in keys for _, keys in held):
            yield one
