"""What one look into the log costs, however long it is: requests and seconds, ours and others'.

Ours lists from the cursor and fetches the new entries. Others that bring a folder up to date list all of it
first and compare: what they take at least is their listing alone. Look at the requests: the seconds of long
listings are also those of the server here, which makes them up.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench import peers
from bench.s3_listing import COUNTS
from bench.table import Table
from twinmail.cost.prices import Prices
from twinmail.errors import TransientError
from twinmail.layout import manifest_key
from twinmail.sync.aws import Aws
from twinmail.sync.cursor import start_after
from twinmail.sync.s3 import S3Source
from twinmail.sync.source import read_all

NEW = 10
LENGTHS = (10_000, 100_000, 1_000_000)
POLLS_A_MONTH = 30 * 24 * 60
BUCKET = "mail"
_ROUNDS = 5
_AWS_CLI_ENTRIES = 100_000
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Look:
    """One way to see what is new.

    Attributes:
        lists, gets: requests of one look.
        seconds: of the median look.
        dollars: a month of looks, one a minute, at list prices; requests only.
    """

    who: str
    entries: int
    lists: int
    gets: int
    seconds: float
    dollars: float


@dataclass(frozen=True)
class Result:
    """Every look that was measured."""

    looks: tuple[Look, ...]

    def to_json(self) -> dict[str, Any]:
        """One object for scripts."""
        return {"new": NEW, "looks": [asdict(one) for one in self.looks]}

    def tables(self) -> tuple[Table, ...]:
        """For people."""
        rows = tuple(
            (
                f"{one.who}, {one.entries:,} entries",
                f"{one.lists:,}",
                f"{one.gets:,}",
                f"{one.seconds:.3f}",
                f"{one.dollars:,.2f}",
            )
            for one in self.looks
        )
        return (Table(f"{NEW} new entries", ("who", "LIST", "GET", "seconds", "$ a month"), rows),)


def measure(folder: Path, say: Say, lengths: tuple[int, ...] = LENGTHS, compared: bool = True) -> Result:
    """Look at logs of *lengths*; with *compared*, have s5cmd and the AWS CLI list them too."""
    tools = peers.install(folder / "peers", ("s5cmd", "awscli")) if compared else None
    prices = Prices.load()
    looks = []
    for entries in lengths:
        say(f"a log of {entries:,} entries")
        with _server(entries) as endpoint:
            commands = _commands(tools, endpoint, entries) if tools else {}
            ways: dict[str, Callable[[], object]] = {"twinmail": partial(_ours, endpoint)}
            ways |= {who: partial(_run, command) for who, command in commands.items()}
            for who, act in ways.items():
                seconds, counts = _timed(act, endpoint, _ROUNDS if who == "twinmail" else 1)
                lists, gets = counts.get("LIST", 0), counts.get("GET", 0)
                price = lists * prices["s3-write"].usd + gets * prices["s3-read"].usd
                looks.append(Look(who, entries, lists, gets, seconds, price * POLLS_A_MONTH))
    return Result(tuple(looks))


def _commands(tools: Path, endpoint: str, entries: int) -> dict[str, list[str]]:
    """How others list the log; the AWS CLI only one of a length that it comes to the end of."""
    at, place = ["--endpoint-url", endpoint], f"s3://{BUCKET}/manifest/"
    found = {"s5cmd ls": [str(tools / "s5cmd"), *at, "ls", f"{place}*"]}
    if entries <= _AWS_CLI_ENTRIES:
        found["aws s3 ls"] = [str(tools / "aws"), *at, "s3", "ls", "--recursive", place]
    return found


def _timed(act: Callable[[], object], endpoint: str, rounds: int) -> tuple[float, dict[str, int]]:
    seconds = []
    for _ in range(rounds):
        _counts(endpoint)
        began = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), _counts(endpoint)


def _counts(endpoint: str) -> dict[str, int]:
    """Requests since the last question."""
    with urllib.request.urlopen(endpoint + COUNTS) as answer:
        found: dict[str, int] = json.loads(answer.read())
    return found


def _ours(endpoint: str) -> None:
    with _environment(AWS_ENDPOINT_URL=endpoint, **_ENVIRONMENT):
        source = S3Source(BUCKET, Aws("eu-central-1"))
        now = datetime.now(UTC)
        # Where a poll of a minute ago has left the cursor, and the overlap that each poll lists again.
        after = start_after(manifest_key("cursor", now), now)
        new = [key for page in source.keys_after(after) for key in page]
        found = read_all(source, new, 1 << 20)
    if len(found) != NEW:
        raise TransientError(f"a look into the log: expected {NEW} new entries, got {len(found)}")


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """*variables* in this process's environment, where the SDK looks; as before at the end."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(command: list[str]) -> None:
    environment = {**_ENVIRONMENT, "PATH": os.environ["PATH"]}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def _server(entries: int) -> Iterator[str]:
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "bench.s3_listing", str(entries), str(NEW)]
    environment = {"PATH": os.defpath, "PYTHONPATH": f"{root / 'src'}:{root}"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdin
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(30)
