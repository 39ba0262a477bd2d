"""The benchmark of latency at its smallest: that it works and what it tells, never how fast anything is."""

from pathlib import Path

from bench import latency
from twinmail.local.state import State
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import available, choose
from twinmail.tasks.config import PROJECT


def test_every_stage_of_both_servers_is_told(tmp_path: Path) -> None:
    # With one runtime: what is tested here is not how containers are started.
    name = min(available(), key=lambda name: name != "namespace")
    images = State.of_checkout(PROJECT)
    runtime = choose(name, tmp_path / "runtime", images.layers)
    result = latency.measure(tmp_path / "bench", images, runtime, host_platform(), lambda text: None, 3)
    assert not runtime.remove_leftovers()
    told = result.to_json()
    assert told["messages"] == 3
    places = {(one["way"], one["server"], one["stage"]) for one in told["stages"]}
    ways, servers = ("one a second", "at once"), ("primary", "backup")
    assert places == {(way, server, stage) for way in ways for server in servers for stage in latency.STAGES}
    assert all(one["p50"] <= one["p99"] for one in told["stages"])
    (table,) = result.tables()
    assert {len(row) for row in table.rows} == {len(table.heads)}
