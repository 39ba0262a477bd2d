"""``./inv pack``, and what the page of packs claims."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.compactor_contract import Log
from tests.moto_store import moto_store
from twinmail.config import Config
from twinmail.cost import packing, quantities
from twinmail.cost.prices import Prices
from twinmail.packs import compactor, plan
from twinmail.production import Packs
from twinmail.sync import packed_source
from twinmail.tasks import pack as module
from twinmail.tasks import place
from twinmail.tasks.place import Place

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "packs.md").read_text()
PRICES = Prices.load()


class Session:
    """One with moto's clients."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3

    def client(self, name: str, **options: Any) -> Any:
        assert name == "s3" and options["config"].max_pool_connections > 10
        return self._s3


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with moto_store() as store, patch.object(plan, "LEAST", 8 << 10):
        monkeypatch.setattr(place, "find", lambda config, state, aws: Place("moto", Session(store.s3)))
        monkeypatch.setattr(Config, "load", lambda path: store.config)
        yield Log(store)


def run(**options: Any) -> None:
    module.pack.body(None, **options)


def test_dry_run_then_packs_then_nothing(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        log.add(number, octets=3000)
    log.add(30)
    run(dry_run=True)
    assert capsys.readouterr().out == "would write 1 pack: 4 entries, 0.0 MB; 1 entry wait for more\n"
    run(json_=True)
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert (said["packs"], said["entries"], said["waiting"], said["tagged"]) == (1, 4, 1, 8)
    assert (said["broken"], said["dry_run"]) == ([], False)
    assert printed.err == f"{log.indexes()[0].key}: 4 entries\n"
    run()
    assert capsys.readouterr().out == "wrote 0 packs: 0 entries, 0.0 MB; 1 entry wait for more\n"


def test_what_is_broken_is_said_and_is_an_error(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    missing = log.add(0, octets=9000)
    log.delete(missing.key)
    with pytest.raises(Exception, match="1 object left out, see above; mend with") as caught:
        run()
    assert getattr(caught.value, "code", None) == 1
    assert f"not packed: {missing.key}: expected a message, got NoSuchKey" in capsys.readouterr().err


def test_switched_off_is_said(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    off = replace(log.config, packs=Packs(enabled=False))
    monkeypatch.setattr(Config, "load", lambda path: off)
    with pytest.raises(Exception, match=r"packs\.enabled is false"):
        run()


def test_page_has_the_tables_of_the_computation() -> None:
    assert packing.request_table() in PAGE and packing.cost_table(PRICES) in PAGE


def test_restore_of_packed_days_asks_rarely() -> None:
    """At most 0.05 requests a small message, also of a small site; 2 without packs and without metadata."""
    assert packing.BLOCK == packed_source.BLOCK
    for kib in (2, 12, 34, 100):
        one = packing.requests(kib, 30)
        assert one.packed <= 0.05 < 2 < one.unpacked
        assert plan.LEAST <= one.mean_octets <= plan.MOST


def test_only_packs_make_archiving_pay_as_the_page_says() -> None:
    years = {}
    for kib in (2, 12, 34, 100):
        objects, moved, packs, archived = packing.kept(kib, PRICES)
        if kib < 100:
            assert moved.year > objects.year, "billed as 128 KB, each year is dearer"
            assert archived.year < moved.year / 5
        assert archived.year < packs.year <= objects.year
        years[kib] = math.ceil(archived.once / (objects.year - archived.year))
    assert (years[12], years[34], years[100]) == (5, 2, 1)
    assert "it pays in the fifth year with messages of 12 KiB" in " ".join(PAGE.split())


def test_model_of_the_bill_is_that_of_the_compactor() -> None:
    template = (PROJECT / "lambda" / "stack.yaml").read_text()
    assert timedelta(days=quantities.PACK_DAYS) == compactor.LATE
    assert quantities.PACK_LEAST == plan.LEAST
    assert f"MemorySize: {quantities.PACK_GB * 1024:.0f}\n" in template


def test_bill_has_what_packs_add() -> None:
    config = Config.load(PROJECT / "twinmail.toml")
    plain = quantities.month(replace(config, packs=Packs(enabled=False)), 10)
    packed = quantities.month(config, 10)
    expired = quantities.month(replace(config, packs=Packs(expire_originals_days=30)), 10)
    assert plain.tags == 0 < expired.tags < packed.tags
    assert packed.bucket_gb - plain.bucket_gb == pytest.approx(config.usage.stored_gb, rel=0.02)
    assert expired.bucket_gb < plain.bucket_gb + 0.2
    assert packed.s3_writes > plain.s3_writes and packed.function_gb_seconds > plain.function_gb_seconds
