"""What the function costs: its start, and a message of each size, against the standard library's parser.

Each figure is of a process of its own, ours and the parser's in turn, so that both meet the same machine.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.function_child import PROJECT
from bench.table import Table

SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 40_000_000)
ROUNDS = 3
_REPEATS = {10_000: 200, 100_000: 100, 1_000_000: 20, 10_000_000: 5, 40_000_000: 3}
_MB = 1_000_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """Messages of *octets*: seconds for one, and memory of the process at its highest, ours and the parser's.

    Attributes:
        spread: slowest less fastest of our rounds, as a share of the median.
    """

    octets: int
    ours: float
    parsed: float
    our_memory: int
    parsed_memory: int
    spread: float


@dataclass(frozen=True)
class Result:
    """What was measured; seconds and octets.

    Attributes:
        start: to import the entry point in a new process, with boto3 and its clients.
        start_memory: of that process then.
    """

    start: float
    start_memory: int
    sizes: tuple[Size, ...]

    def to_json(self) -> dict[str, Any]:
        """One object for scripts."""
        return {
            "start": {"ms": round(self.start * 1000, 1), "mb": round(self.start_memory / _MB, 1)},
            "ratios": {str(one.octets): round(one.parsed / one.ours, 2) for one in self.sizes},
            "peak_mb": round(max(one.our_memory for one in self.sizes) / _MB, 1),
            "sizes": [asdict(one) for one in self.sizes],
        }

    def tables(self) -> tuple[Table, ...]:
        """For people."""
        rows = tuple(
            (
                f"{one.octets / 1000:,.0f} KB",
                f"{one.ours * 1000:,.2f}",
                f"{one.spread:.0%}",
                f"{one.parsed * 1000:,.2f}",
                f"{one.parsed / one.ours:,.1f}",
                f"{one.our_memory / _MB:,.0f}",
                f"{one.parsed_memory / _MB:,.0f}",
            )
            for one in self.sizes
        )
        heads = ("message", "ours, ms", "spread", "parser, ms", "ratio", "ours, MB", "parser, MB")
        start = ((f"{self.start * 1000:,.0f}", f"{self.start_memory / _MB:,.0f}"),)
        return (
            Table("start of a new process", ("ms", "MB"), start),
            Table("a message, processed", heads, rows),
        )


def measure(say: Say, sizes: tuple[int, ...] = SIZES, rounds: int = ROUNDS) -> Result:
    """Measure *sizes* (octets) in *rounds*."""
    starts = [_child("import", 0, 1) for _ in range(rounds)]
    found = []
    for octets in sizes:
        say(f"messages of {octets:,} octets")
        ours, parsed = [], []
        for _ in range(rounds):
            ours.append(_child("ours", octets, _REPEATS.get(octets, 3)))
            parsed.append(_child("parsed", octets, _REPEATS.get(octets, 3)))
        seconds = [one["seconds"] for one in ours]
        found.append(
            Size(
                octets,
                statistics.median(seconds),
                statistics.median(one["seconds"] for one in parsed),
                int(max(one["octets"] for one in ours)),
                int(max(one["octets"] for one in parsed)),
                (max(seconds) - min(seconds)) / statistics.median(seconds),
            )
        )
    return Result(
        statistics.median(one["seconds"] for one in starts),
        int(max(one["octets"] for one in starts)),
        tuple(found),
    )


def _child(way: str, octets: int, repeats: int) -> dict[str, float]:
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    command = [sys.executable, "-m", "bench.function_child", way, str(octets), str(repeats)]
    done = subprocess.run(command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found
