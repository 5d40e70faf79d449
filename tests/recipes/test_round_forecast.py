"""What rounds will train and take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backflip.recipes.forecast import forecast
from backflip.recipes.load import load_recipe
from tests.recipes.test_round_mistakes import ITERATIVE

pytestmark = pytest.mark.usefixtures("own_cache")


def recipe_of(name: str, model: str, run: Path, **settings: Any) -> Any:
    return load_recipe(name, {"model": model, "run": str(run), **settings})


@pytest.mark.parametrize("name", ITERATIVE)
def test_every_shipped_recipe_of_rounds_can_be_planned(name: str, model: str, tmp_path: Path):
    recipe = recipe_of(name, model, tmp_path / "run")
    plans = recipe.plans()
    assert [one.stage for one in plans] == ["answers", *(link for link, _ in recipe.links())]
    assert plans[0].steps == recipe.rounds
    assert plans[0].held_out == 64
    assert all(one.tokens > 0 for one in plans)


def test_pooled_rounds_learn_more_and_more(model: str, tmp_path: Path):
    """32, 64 and 96 comparisons in batches of 8 are 4 + 8 + 12 steps; alone, 3 × 4."""
    pooled = recipe_of("iterative_dpo", model, tmp_path / "run").plans()[1]
    alone = recipe_of("iterative_dpo", model, tmp_path / "run", pool=False).plans()[1]
    assert (pooled.steps, alone.steps) == (24, 12)
    assert (pooled.rows, alone.rows) == (96, 32)


def test_a_short_round_says_what_all_will_take(model: str, tmp_path: Path):
    settings = {"reward_model.data.limit": 16, "sampling.max_tokens": 5, "rounds": 2}
    recipe = recipe_of("llama2_rounds", model, tmp_path / "run", **settings)
    said = forecast(recipe, recipe.plans())
    assert [part.stage for part in said.stages] == ["answers", "reward_model", "sft"]
    assert all(part.seconds > 0 for part in said.stages)
    assert said.seconds >= sum(part.seconds for part in said.stages)
    assert not (tmp_path / "run").exists()
