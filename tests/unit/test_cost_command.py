"""``./inv cost`` and its exit codes."""

import json
from datetime import date
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


def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices of long ago."""
    monkeypatch.setattr(Prices, "oldest", date(2020, 1, 2))
    monkeypatch.setattr(Prices, "doubts", lambda *_: ["prices.toml: prices of 2020"])


def test_bill_is_printed_with_budget_and_tax(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost(Context(), config=str(config), old_prices=True)
    text = capsys.readouterr().out
    assert "of a budget of 10.00" in text and "with 19 % VAT" in text
    assert "Route 53 zones" in text and "the oldest was read on 2026-" in text


def test_json_is_one_object_and_nothing_else(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost(Context(), config=str(config), old_prices=True, json_=True)
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["total", "total_with_vat", "budget", "lines"]


def test_over_the_budget_is_exit_code_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(f"{TOML}\n[budget]\nmonth_usd = 0.5\n")
    with pytest.raises(Exit, match=r"^[0-9.]+ dollars a month, and the budget is 0\.50; see above") as error:
        cost(Context(), config=str(config), old_prices=True)
    assert error.value.code == 1
    capsys.readouterr()
    with pytest.raises(Exit) as error:
        cost(Context(), config=str(config), old_prices=True, json_=True)
    assert error.value.code == 1
    assert json.loads(capsys.readouterr().out)["budget"] == 0.5


def test_old_prices_are_refused_unless_asked_for(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old(monkeypatch)
    expected = r"^prices\.toml: prices of 2020, or compute with them anyway: \./inv cost --old-prices$"
    with pytest.raises(Exit, match=expected) as error:
        cost(Context(), config=str(config))
    assert error.value.code == 1
    cost(Context(), config=str(config), old_prices=True, json_=True)
    shown = capsys.readouterr()
    assert shown.err == "warning: prices.toml: prices of 2020\n"
    assert json.loads(shown.out)["total"] > 0
