"""The benchmark of a build at its smallest: that it works and what it tells, never how fast anything is."""

from pathlib import Path

import pytest

from bench import build
from tests.deploy.debian_root import missing
from twinmail.oci.cache import PLACE
from twinmail.tasks.config import PROJECT


def test_every_way_of_building_is_told(tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    place = tmp_path / "bench"
    downloads = PROJECT / ".twinmail" / PLACE
    result = build.measure(place, PROJECT, None, lambda text: None, ("syncer",), "base", 1, downloads)
    told = result.to_json()
    assert all(told["seconds"][one] > 0 for one in ("cold", "warm", "noop", "one_line"))
    assert told["ratios"]["mmdebstrap"] > 0
    # What a change of code ships is the layer of the code, not those of packages.
    assert 0 < told["octets"]["one_line"] < 2_000_000 < told["octets"]["alone"]
    assert (PROJECT / build.CHANGED).read_bytes() != (place / "sources" / build.CHANGED).read_bytes()
    assert all({len(row) for row in table.rows} == {len(table.heads)} for table in result.tables())
