"""Tables and sentences that the commands print, on a terminal of 80 columns."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from backflip.cli import console
from backflip.cli.check import print_forecast, print_plans
from backflip.cli.console import laid_out
from backflip.cli.measure import print_best_of_n
from backflip.cli.recipe import print_recipe
from backflip.cli.trust import print_trust
from backflip.functional.statistics import Interval
from backflip.recipes.forecast import Forecast
from backflip.recipes.names import shipped
from tests.evaluation.trusting import comparison, reported

WORD = st.text("abcdefgh-/…", min_size=1, max_size=24)
CELL = st.lists(WORD, min_size=1, max_size=5).map(" ".join)


def printed(parts: Any, width: int = 80) -> str:
    file = io.StringIO()
    for part in parts:
        Console(file=file, width=width).print(part)
    return file.getvalue()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the commands print, 80 columns wide."""
    file = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=file, width=80, highlight=False))
    return file


@settings(deadline=None, max_examples=60)
@given(data=st.data(), columns=st.integers(1, 12), rows=st.integers(0, 5))
def test_no_table_is_wider_than_the_terminal_and_no_word_is_broken(data, columns, rows):
    names = data.draw(st.lists(CELL, min_size=columns, max_size=columns))
    kinds = data.draw(st.lists(st.sampled_from(["", "#"]), min_size=columns, max_size=columns))
    numbers = st.integers(0, 10**6).map(lambda n: f"{n} tokens")
    cells = [[data.draw(numbers if kind else CELL) for kind in kinds] for _ in range(rows)]
    heads = [kind + name for kind, name in zip(kinds, names, strict=True)]
    said = printed(laid_out("a title", heads, cells, 80))
    assert max(map(len, said.splitlines())) <= 80
    for cell in (cell for row in cells for cell in row):
        assert all(word in said for word in cell.split()), cell


def test_a_wide_table_is_turned_on_its_side_before_it_falls_into_rows():
    heads = ["run", *(f"#measurement {n}" for n in range(12))]
    few = [[f"runs/{name}", *["0.123 ± 0.045"] * 12] for name in ("a", "b")]
    said = printed(laid_out("", heads, few, 80))
    assert "runs/a" in said.splitlines()[1]
    assert any(
        "measurement 11" in line and line.count("0.123 ± 0.045") == 2 for line in said.splitlines()
    )


# ---- every table of the command line


def lines_of(file: io.StringIO) -> list[str]:
    lines = file.getvalue().splitlines()
    tables = [line for line in lines if not line.startswith(("note:", "report", "time "))]
    assert tables
    assert max(map(len, tables)) <= 80, max(tables, key=len)
    return lines


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_fits_one_screen(name: str, narrow: io.StringIO):
    print_recipe(name)
    assert len(lines_of(narrow)) <= 34
    assert f"backflip recipe {name} --all" in narrow.getvalue()


def test_all_settings_fit_the_columns(narrow: io.StringIO):
    print_recipe("iterative_dpo", everything=True)
    lines = lines_of(narrow)
    assert any(line.startswith("direct.objective.beta = 0.1 ") for line in lines)
    assert len(lines) > 100


def test_a_forecast_and_its_plans_fit(narrow: io.StringIO):
    from backflip.stages.plans import Plan, StageForecast

    plans = [
        Plan(
            stage="reward_model", parameters=1_235_814_400, trainable=11_272_192, rows=160_800,
            held_out=17_867, left_out=1_234, steps=20_100, tokens=61_234_567, said=(),
        )
    ]  # fmt: skip
    print_plans(plans)
    assert "1.24 B" in narrow.getvalue()
    parts = (StageForecast("reward_model", 12.345, 248_134.0, 1234.0, 123.45),)
    print_forecast(Forecast(parts, 100.0, 123.4, 1234.5, 61_234_567, 12.0, ()))
    lines_of(narrow)


def test_a_comparison_of_runs_with_long_names_fits(narrow: io.StringIO):
    head = ["Run", "State", "Reward", "Held-out reward", "KL", "Accuracy", "Alarms"]
    values = ["finished", "0.12 → 1.34", "0.10 → 0.98", "4.56 nats", "71.3 %", "2"]
    rows = [[f"/home/somebody/runs/ppo-2026-11-29-2358{n}", *values] for n in range(3)]
    console.table("", head, rows)
    for line in rows:
        assert line[0] in narrow.getvalue()
    lines_of(narrow)


def test_a_measurement_has_no_infinity_and_no_slice_that_is_the_whole(narrow: io.StringIO):
    """Four pairs, all right, in each of which people preferred the shorter reply; then in three."""
    shorter = [comparison(n, ("no", "not at all")) for n in range(4)]
    print_trust(reported([1.0] * 4, shorter))
    said = narrow.getvalue()
    assert "none is wrong" in said
    assert "inf" not in said
    assert "shorter reply preferred" not in said
    print_trust(reported([1.0] * 4, [*shorter[:3], comparison(3, ("certainly not", "no"))]))
    (row,) = [line for line in narrow.getvalue().splitlines() if "shorter reply preferred" in line]
    assert row.split()[4] == "3"


def test_meanings_of_settings_have_no_marks_of_docstrings(narrow: io.StringIO):
    from backflip.recipes.describe import settings

    assert not any("`" in setting.meaning for setting in settings("direct"))


def test_best_of_n_with_many_parts_fits(narrow: io.StringIO, tmp_path: Path):
    interval = Interval(1.234, -0.123, 2.345, 0.95)
    points = [
        SimpleNamespace(n=n, reward=interval, parts={"helpfulness": interval, "length": interval},
                        kl=1.23, prompts=1000)
        for n in (1, 2, 4, 8, 16)
    ]  # fmt: skip
    found: Any = SimpleNamespace(points=points, notes=(), answers=tmp_path / "a.jsonl")
    print_best_of_n(found)
    assert narrow.getvalue().count("1.234 [−0.123, 2.345]") == 15
