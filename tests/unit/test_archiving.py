"""What the bucket forgets and moves: nothing that is current is ever lost, and moving pays."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cloud import CONFIG
from twinmail.cost import archiving
from twinmail.cost.archiving import CHOSEN, CLASSES, READS, STEP, saved, smallest
from twinmail.cost.prices import Prices
from twinmail.stack_template import render

PROJECT = Path(__file__).parents[2]
PRICES = Prices.load()


def rules() -> dict[str, dict[str, Any]]:
    """The lifecycle rules, whatever their condition, by id."""
    document = render((PROJECT / "lambda" / "stack.yaml").read_text(), CONFIG)
    found = document["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    return {one["Id"]: one for one in (each["Fn::If"][1] if "Fn::If" in each else each for each in found)}


def test_what_is_current_never_expires() -> None:
    for one in rules().values():
        assert not {"ExpirationInDays", "ExpirationDate"} & one.keys(), one
    forgotten = rules()["forget-deleted-and-replaced"]
    assert forgotten["NoncurrentVersionExpiration"] == {"NoncurrentDays": {"Ref": "DeletedDays"}}
    # Of markers that hide nothing any more.
    assert forgotten["ExpiredObjectDeleteMarker"] is True


def test_only_mail_is_moved_and_only_where_that_is_wanted() -> None:
    document = render((PROJECT / "lambda" / "stack.yaml").read_text(), CONFIG)
    found = document["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    moved = [one for one in rules().values() if "Transitions" in one]
    assert {one["Prefix"] for one in moved} == set(READS)
    for one in found:
        inner = one["Fn::If"][1] if "Fn::If" in one else one
        assert ("Transitions" in inner) == (one.get("Fn::If", [""])[0] == "Archives")


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
