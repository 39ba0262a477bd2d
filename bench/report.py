"""docs/benchmarks.md: a section for each benchmark, written anew when it was measured anew."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from bench.table import Table

DOCUMENT = "docs/benchmarks.md"
_HEAD = """\
# Benchmarks

Each section is written by the command that it names, on the machine and day that it names. Look at ratios of
one run; seconds are those of that machine. Tests check that the commands work, and no time.
"""


def section(name: str, command: str, day: date, tables: Sequence[Table]) -> str:
    """The section of the benchmark *name*."""
    head = f"`{command}`, {day}, {machine()}, commit {commit()}.\n"
    return f"## {name}\n\n{head}\n" + "\n".join(one.markdown() for one in tables)


def written(text: str, name: str, made: str) -> str:
    """*text*, the document or nothing, with the section *made* of *name* in it; sections are sorted."""
    parts = re.split(r"(?m)^(?=## )", text or _HEAD)
    others = {one.splitlines()[0].removeprefix("## "): one.strip() + "\n" for one in parts[1:]}
    sections = {**others, name: made.strip() + "\n"}
    return "\n".join([parts[0].strip() + "\n", *(sections[one] for one in sorted(sections))])


def machine() -> str:
    """The processor, how many of it, memory and kernel."""
    found = re.search(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
    model = " ".join(found[1].split()) if found else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}"


def commit() -> str:
    """Of this checkout; ``+`` if it has changes."""
    root = Path(__file__).resolve().parents[1]
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=root, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
