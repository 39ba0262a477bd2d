"""``./inv cost`` and its exit codes."""

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from tests.cloud import TOML
from twinmail.cost.prices import Prices
from twinmail.tasks.cost import cost


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "twinmail.toml"
    path.write_text(TOML)
    return path


@dataclass(frozen=True)
class Clock:
    """The class `datetime`, on a day of its own."""

    day: date

    def now(self, zone: tzinfo) -> datetime:
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=zone)


def test_bill_is_printed_with_budget_and_tax(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost(Context(), config=str(config))
    text = capsys.readouterr().out
    assert "of a budget of 10.00" in text and "with 19 % VAT" in text
    assert "Route 53 zones" in text and "the oldest was read on 2026-" in text


def test_json_is_one_object_and_nothing_else(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost(Context(), config=str(config), json_=True)
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["total", "total_with_vat", "budget", "lines"]


def test_over_the_budget_is_exit_code_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(f"{TOML}\n[budget]\nmonth_usd = 0.5\n")
    with pytest.raises(Exit, match=r"^[0-9.]+ dollars a month, and the budget is 0\.50; see above") as error:
        cost(Context(), config=str(config))
    assert error.value.code == 1
    capsys.readouterr()
    with pytest.raises(Exit) as error:
        cost(Context(), config=str(config), json_=True)
    assert error.value.code == 1
    assert json.loads(capsys.readouterr().out)["budget"] == 0.5


def test_old_prices_are_warned_of_every_time(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest = Prices.load().oldest
    monkeypatch.setattr("twinmail.tasks.cost.datetime", Clock(oldest + timedelta(days=366)))
    cost(Context(), config=str(config), json_=True)
    shown = capsys.readouterr()
    warning = f"warning: prices.toml: prices read more than 12 months ago, the oldest on {oldest}: "
    assert shown.err.startswith(warning) and shown.err.count("\n") == 1
    assert json.loads(shown.out)["total"] > 0
