"""What the demo says in a terminal, from a summary made by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from backflip.data.sources import read
from backflip.demo.run import _tell
from backflip.evaluation.perplexity import Perplexities
from backflip.recipes.load import load_recipe
from backflip.recipes.names import HERE
from backflip.stages.prompt_eval import shown_rows

PROMPT = "The ferry to the island is fully booked and my stall at the craft fair opens tomorrow."


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


@pytest.fixture
def summary() -> dict[str, Any]:
    judge = {"accuracy": 0.98, "accuracy_low": 0.95, "accuracy_high": 1.0, "pairs": 64}
    example = {"prompt": PROMPT, "before": "[bold] move", "after": "Which boat?"}
    ppo: dict[str, Any] = {"kl_before": -3e-8, "kl_after": 1.21}
    for name, before, after in (("reward", -0.3, 0.5), ("reward_heldout", 0.1, 0.4)):
        ppo[f"{name}_before"], ppo[f"{name}_after"] = interval(before), interval(after)
        ppo[f"{name}_gain"] = interval(after - before)
    ppo["examples"] = [example | {"score_before": -0.2, "score_after": 0.7}]
    ppo["examples_rule"] = "Held-out prompts 1, 11 of 20, chosen by their place."
    return {"reward_model": judge | {"baseline_longer": 0.6}, "ppo": ppo}


@pytest.fixture
def replies() -> Perplexities:
    said = {"before": torch.tensor([4.0, 6.0, 8.0]), "after": torch.tensor([5.0, 9.0, 40.0])}
    return Perplexities(said, torch.full((10,), 20.0))


def test_a_prompt_is_told_whole_and_a_reply_as_it_was_written(
    summary: dict[str, Any], replies: Perplexities
):
    out = io.StringIO()
    _tell(Console(file=out, width=60), summary, Path("runs/demo"), replies)
    words = " ".join(out.getvalue().replace("│", " ").split())
    assert PROMPT in words
    assert "before -0.20 [bold] move" in words
    assert "after +0.70 Which boat?" in words


def test_the_gain_of_both_heads_is_told_and_no_kl_below_zero(
    summary: dict[str, Any], replies: Perplexities
):
    out = io.StringIO()
    _tell(Console(file=out, width=120), summary, Path("runs/demo"), replies)
    assert "+0.80 (+0.70 to +0.90)" in out.getvalue()
    assert "+0.30 (+0.20 to +0.40)" in out.getvalue()
    assert "0.0  →  1.2 nats" in out.getvalue()
    assert "-0.0" not in out.getvalue()


def test_how_replies_stay_with_the_untouched_model_and_how_they_were_chosen_is_told(
    summary: dict[str, Any], replies: Perplexities
):
    out = io.StringIO()
    _tell(Console(file=out, width=120), summary, Path("runs/demo"), replies)
    words = " ".join(out.getvalue().replace("│", " ").split())
    assert "perplexity of the replies 6 → 9" in words
    assert "at most 20 3 of 3 → 2 of 3" in words
    assert "chosen by their place" in words


def test_the_question_of_the_readme_is_shown_and_no_shown_question_was_learnt_from():
    recipe: Any = load_recipe(HERE.parent / "demo" / "demo.yaml")
    held = [row.fields["prompt"] for row in read(recipe.ppo.data.validation)]
    shown = [held[row] for row in shown_rows(len(held[: recipe.ppo.validation_prompts]))[0]]
    assert "I feel overwhelmed at work, any advice?" in shown
    learnt = {
        row.fields["prompt"]
        for stage in (recipe.sft, recipe.reward_model, recipe.ppo)
        for row in read(stage.data.source)
    }
    assert not learnt & set(held)
    assert len(set(held)) == len(held) == 50


def test_replies_of_the_demo_are_short_and_its_data_is_there():
    recipe: Any = load_recipe(HERE.parent / "demo" / "demo.yaml")
    assert recipe.ppo.sampling.max_tokens == 48
    for stage in (recipe.sft, recipe.reward_model, recipe.ppo):
        for source in filter(None, (stage.data.source, stage.data.validation)):
            assert next(read(source)).fields["prompt"]
