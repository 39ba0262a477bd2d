"""Which faults are there while which messages are sent: the same for the same seed. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

RESTARTED = "localstack-restarted"

LONELY = (RESTARTED,)
"""Faults that end what others do; each has a window of its own."""

_TOGETHER = 3


@dataclass(frozen=True)
class Window:
    """Messages, and the faults that are there while they are sent.

    Attributes:
        first, last: numbers of the messages, ``first <= number < last``.
        faults: names, sorted.
    """

    first: int
    last: int
    faults: tuple[str, ...]


def schedule(names: Sequence[str], messages: int, seed: int) -> tuple[Window, ...]:
    """Windows for *messages* messages, which have every fault of *names* alone first, then mixed.

    With fewer messages than windows some have none, and are there all the same.
    """
    chance = random.Random(f"{seed}/schedule")
    groups = [*_alone(names, chance), *_mixed(names, chance)] or [()]
    windows = []
    for number, group in enumerate(groups):
        first, last = (messages * one // len(groups) for one in (number, number + 1))
        windows.append(Window(first, last, tuple(sorted(group))))
    return tuple(windows)


def _alone(names: Sequence[str], chance: random.Random) -> Iterator[tuple[str, ...]]:
    order = list(names)
    chance.shuffle(order)
    yield from ((one,) for one in order)


def _mixed(names: Sequence[str], chance: random.Random) -> Iterator[tuple[str, ...]]:
    """Every fault once more, up to `_TOGETHER` at a time."""
    order = [one for one in names if one not in LONELY]
    if len(order) < 2:
        return
    chance.shuffle(order)
    while order:
        yield tuple(order.pop() for _ in range(min(len(order), chance.randint(2, _TOGETHER))))
