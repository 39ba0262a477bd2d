"""What the bucket forgets and moves: nothing that is current is ever lost, and moving pays."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cloud import CONFIG
from twinmail import layout, stack
from twinmail.cost import archiving
from twinmail.cost.archiving import CHOSEN, CLASSES, READS, STEP, saved, smallest
from twinmail.cost.prices import Prices
from twinmail.function_zip import FunctionZip
from twinmail.packs import originals
from twinmail.packs.pack_index import PackedEntry, Range
from twinmail.packs.plan import ENTRIES, LEAST
from twinmail.production import Packs
from twinmail.stack_template import render

PROJECT = Path(__file__).parents[2]
PRICES = Prices.load()


def rules() -> dict[str, dict[str, Any]]:
    """The lifecycle rules, whatever their condition, by id."""
    document = render((PROJECT / "lambda" / "stack.yaml").read_text(), CONFIG)
    found = document["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    return {one["Id"]: one for one in (each["Fn::If"][1] if "Fn::If" in each else each for each in found)}


def conditional() -> dict[str, str]:
    """Under which condition of the template a rule is there, by id; the others always are."""
    document = render((PROJECT / "lambda" / "stack.yaml").read_text(), CONFIG)
    found = document["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    return {one["Fn::If"][1]["Id"]: one["Fn::If"][0] for one in found if "Fn::If" in one}


def test_what_is_current_expires_only_when_it_is_in_a_pack_and_somebody_wants_it() -> None:
    ending = {
        name: one for name, one in rules().items() if {"ExpirationInDays", "ExpirationDate"} & one.keys()
    }
    assert ending == {
        "expire-packed-originals": {
            "Id": "expire-packed-originals",
            "Status": "Enabled",
            "TagFilters": originals.TAG["TagSet"],
            "ExpirationInDays": {"Ref": "ExpireOriginalsDays"},
        }
    }
    assert conditional()["expire-packed-originals"] == "Expires"
    function = FunctionZip(b"zip", "0" * 64)
    assert stack.parameters(CONFIG, function)["ExpireOriginalsDays"] == "0"
    wanted = replace(CONFIG, packs=Packs(expire_originals_days=30))
    assert stack.parameters(wanted, function)["ExpireOriginalsDays"] == "30"
    forgotten = rules()["forget-deleted-and-replaced"]
    assert forgotten["NoncurrentVersionExpiration"] == {"NoncurrentDays": {"Ref": "DeletedDays"}}
    # Of markers that hide nothing any more.
    assert forgotten["ExpiredObjectDeleteMarker"] is True


def test_only_mail_is_moved_and_only_where_that_is_wanted() -> None:
    moved = {name: one for name, one in rules().items() if "Transitions" in one}
    assert {one["Prefix"] for one in moved.values()} == {*READS, "packs/"}
    assert {name for name, condition in conditional().items() if condition == "Archives"} == set(moved)


def test_packs_are_moved_and_their_indexes_are_not() -> None:
    rule = rules()["archive-packs"]
    assert rule["ObjectSizeGreaterThan"] == str(LEAST - 1)
    assert rule["Transitions"] == [{"StorageClass": CHOSEN.name, "TransitionInDays": {"Ref": "ArchiveDays"}}]
    key = layout.manifest_key("i" * 40, datetime(2026, 11, 23, tzinfo=UTC))
    one = Range(key, 10**8, 10**3, "0" * 64)
    entry = PackedEntry(
        one, replace(one, key=layout.processed_key("i" * 40, datetime(2026, 11, 23, tzinfo=UTC)))
    )
    octets = len(json.dumps([asdict(entry)]))
    assert ENTRIES * octets < LEAST


@pytest.mark.parametrize("prefix", READS)
def test_template_moves_from_the_size_that_pays(prefix: str) -> None:
    (rule,) = [one for one in rules().values() if one.get("Prefix") == prefix]
    assert rule["ObjectSizeGreaterThan"] == str(smallest(READS[prefix], CHOSEN, PRICES))
    assert rule["Transitions"] == [{"StorageClass": CHOSEN.name, "TransitionInDays": {"Ref": "ArchiveDays"}}]


def test_page_has_the_table_of_the_computation() -> None:
    assert archiving.table(PRICES) in (PROJECT / "docs" / "retention.md").read_text()


@given(octets=st.integers(1, 40 << 20), prefix=st.sampled_from(list(READS)), to=st.sampled_from(CLASSES))
def test_larger_objects_pay_and_smaller_ones_do_not(octets: int, prefix: str, to: archiving.Class) -> None:
    start = smallest(READS[prefix], to, PRICES)
    if octets >= start:
        assert saved(octets, READS[prefix], to, PRICES) > 0
    if octets <= start - STEP:
        assert saved(octets, READS[prefix], to, PRICES) <= 0


def test_small_objects_are_billed_as_128_kib() -> None:
    dearer = saved(1, 0, CHOSEN, PRICES)
    month = archiving.BILLED_OCTETS / archiving.GIB * PRICES["s3-glacier-ir-storage"].usd
    assert dearer == pytest.approx(-archiving.MONTHS * month - PRICES["s3-glacier-ir-move"].usd, rel=1e-3)


def test_chosen_class_saves_most_where_it_pays() -> None:
    for reads in READS.values():
        best = max(CLASSES, key=lambda one: saved(1 << 20, reads, one, PRICES))
        assert best is CHOSEN
