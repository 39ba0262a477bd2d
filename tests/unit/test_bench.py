"""The benchmarks at their smallest: that they work and what they tell, never how fast anything is."""

import os
from datetime import date
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from bench import function, idle, poll, report
from bench.table import Table
from twinmail.tasks.bench import bench

TABLE = Table("memory", ("what", "MB"), (("syncer", "48"),))


def test_function_is_measured_against_the_parser() -> None:
    result = function.measure(lambda text: None, (10_000,), 1)
    told = result.to_json()
    assert told["ratios"].keys() == {"10000"} and told["ratios"]["10000"] > 0
    assert 0 < told["start"]["mb"] < 512 and 0 < told["peak_mb"] < 512
    assert [len(one.heads) for one in result.tables()] == [len(one.rows[0]) for one in result.tables()]


def test_idle_tells_what_scripts_ask_for() -> None:
    memory = idle.Memory(50_000_000, 60_000_000, 2)
    told = idle.Result({"syncer": memory, "dovecot": memory}).to_json()
    assert told["rss_mb"] == {"syncer": 60.0, "backup_stack": 100.0}
    assert idle.memory(os.getpid()).own > 1_000_000


def test_a_look_into_the_log_is_one_list_and_a_get_for_each_new_entry(tmp_path: Path) -> None:
    (look,) = poll.measure(tmp_path, lambda text: None, (3000,), False).looks
    assert (look.who, look.entries, look.lists, look.gets) == ("twinmail", 3000, 1, poll.NEW)
    assert look.dollars == pytest.approx(43_200 * (5.4e-6 + 10 * 4.3e-7))


def test_section_is_replaced_and_the_others_stay() -> None:
    first = report.written(
        "", "lambda", report.section("lambda", "./inv bench lambda", date(2026, 1, 2), [TABLE])
    )
    both = report.written(
        first, "idle", report.section("idle", "./inv bench idle", date(2026, 1, 3), [TABLE])
    )
    assert both.index("## idle") < both.index("## lambda") and both.startswith("# Benchmarks\n")
    again = report.written(both, "idle", "## idle\n\nnew\n")
    assert "new" in again and "2026-01-03" not in again and "2026-01-02" in again
    assert "| syncer | 48 |" in both


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"name": "speed"},
            "unknown benchmark 'speed'; known: search, lambda, idle, poll, latency, build, restore",
        ),
        ({"name": "search", "messages": 3}, "--messages: expected 1000 to 1000000, got 3"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, object], text: str) -> None:
    with pytest.raises(Exit, match=text):
        bench(Context(), **options)
