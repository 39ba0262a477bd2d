"""``./inv bench``: measure on this machine what the documentation gives figures for."""

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

if TYPE_CHECKING:
    from bench.search import Result

NAMES = ("search",)
_MB = 1_000_000


@command(
    positional=["name"],
    help={
        "name": f"what to measure: {', '.join(NAMES)}",
        "messages": "how many messages the mailbox has",
        "runtime": "docker or namespace (default: Docker where an engine answers)",
        "json": "print one JSON object",
    },
)
def bench(context: Any, name: str, messages: int = 50_000, runtime: str = "", json_: bool = False) -> None:
    """Measure searches: ./inv bench search. 50,000 messages take half an hour and 4 GB of disk."""
    if name not in NAMES:
        raise PermanentError(f"unknown benchmark {name!r}; known: {', '.join(NAMES)}")
    if not 1000 <= messages <= 1_000_000:
        raise PermanentError(f"--messages: expected 1000 to 1000000, got {messages}")
    from bench.search import measure
    from twinmail.runtime.emulation import host_platform
    from twinmail.runtime.select import choose
    from twinmail.tasks.build import images

    images(["dovecot"], (host_platform(),), False)
    folder = PROJECT / ".twinmail" / "bench"
    chosen = choose(runtime or None, folder / "runtime", PROJECT / ".twinmail" / "layers")
    chosen.remove_leftovers()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        layout = PROJECT / ".twinmail" / "images" / "dovecot"
        result = measure(chosen, layout, folder / "search", messages, say)
    finally:
        chosen.remove_leftovers()
        shutil.rmtree(folder, ignore_errors=True)
    if json_:
        print(json.dumps({"runtime": chosen.name, **result.to_json()}))
    else:
        _print(result)


def _print(result: "Result") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"search over {result.messages:,} messages, {result.octets / _MB:,.0f} MB")
    table.add_column("searched for")
    for heading in ("found", "with index", "at most", "without", "ratio"):
        table.add_column(heading, justify="right")
    for one in result.searches:
        table.add_row(
            one.name,
            f"{one.found:,}",
            f"{one.with_index:.3f} s",
            f"{one.longest:.3f} s",
            f"{one.without_index:.1f} s",
            f"{one.ratio:,.0f}",
        )
    Console(width=110).print(table)
    rate = result.messages / result.index_seconds
    for name, text in (
        ("index made in", f"{result.index_seconds:,.0f} s, {rate:.0f} messages a second"),
        (
            "index on disk",
            f"{result.index_octets / _MB:,.0f} MB, {result.merged_octets / _MB:,.0f} MB when merged",
        ),
        ("memory of the indexer", f"{result.indexer_octets / _MB:.0f} MB"),
        (
            "memory of a session",
            f"{result.imap_octets / _MB:.0f} MB, {result.imap_without_octets / _MB:.0f} MB without the index",
        ),
        ("a message just came", f"found in {result.new_seconds:.3f} s, not indexed before"),
    ):
        print(f"  {name:<21}  {text}")
