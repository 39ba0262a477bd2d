"""What the benchmark of a build tells of what it measured."""

from pathlib import Path

import pytest

from bench import build
from bench.build import ALONE, COLD, FIRST, NOOP, ONE_LINE, PLAIN, UNPACKED, WARM, Result
from bench.peers import NoPeer


def test_ratios_are_medians_of_theirs_by_ours() -> None:
    ours = {FIRST: [9.0], COLD: [6.0, 5.0, 90.0], WARM: [0.5], NOOP: [0.25], ONE_LINE: [0.75]}
    others = {ALONE: [2.0, 4.0], UNPACKED: [6.0, 9.0], PLAIN: [3.0]}
    octets = {ALONE: 31_000_000, UNPACKED: 36_000_000, PLAIN: 92_000_000}
    result = Result(("dovecot", "syncer"), "dovecot", "linux/amd64", "1.3.5", ours | others, octets, 700_000)
    told = result.to_json()
    assert told["ratios"] == {"mmdebstrap": 2.5, "mmdebstrap_plain": 1.0}
    seconds = {name: told["seconds"][name] for name in ("cold", "warm", "noop", "one_line")}
    assert seconds == {"cold": 6.0, "warm": 0.5, "noop": 0.25, "one_line": 0.75}
    first, second = result.tables()
    assert first.rows[1] == ("cold: only downloads here", "6.00", "5.00 to 90.00")
    assert second.rows[1][1:] == ("7.50", "6.00 to 9.00", "36.0", "2.50")


def test_what_is_missing_is_said_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoPeer, match=r"mmdebstrap: not found; install it: sh \.ci/mmdebstrap"):
        build.measure(tmp_path / "bench", tmp_path, None, lambda text: None)
    assert not (tmp_path / "bench").exists()
