"""The scale of a reward model's scores costs no more than a share of its training."""

from __future__ import annotations

import json

import pytest
import torch

from backflip.data.batches import ComparisonBatch
from backflip.data.sources import write_jsonl
from backflip.models.heads import RewardModel
from backflip.monitor.progress import Progress
from backflip.recipes.load import load_recipe
from backflip.recipes.run import train
from backflip.stages import scale
from backflip.stages.scale import FEWEST, LONGEST, MOST, READ, affordable, mean_within
from tests.recipes.tiny import tiny_model


def comparisons(*, prompt=30, answer=50, rows=20):
    """Rows of a prompt and two answers, of so many tokens each."""
    prompts = [[1 + row] * prompt for row in range(rows)]
    answers = [[[1] * answer, [2] * answer] for _ in range(rows)]
    return ComparisonBatch.of(prompts, answers, [[0, 1]] * rows)


def cost(answers, prompt):
    """Of writing the answers, in tokens that are learnt from."""
    return answers * (LONGEST + READ * prompt)


@pytest.mark.parametrize("prompt", [10, 30, 400])
def test_scaling_costs_at_most_a_quarter_of_what_was_learnt(prompt):
    """Between the floor and the ceiling, and it buys all that the quarter pays for."""
    data, prompts = comparisons(prompt=prompt), [[1] * prompt]
    for rows in (16, 64, 100, 200, 10_000):
        learnt = rows * (prompt + 2 * 50)
        found = affordable(data, prompts, rows)
        assert FEWEST <= found <= MOST
        if found > FEWEST:
            assert cost(found, prompt) <= learnt / 4
        if found < MOST:
            assert cost(found + 1, prompt) > learnt / 4


def test_the_precision_that_is_said_is_that_of_a_mean():
    """As often as it says: the mean of n normal scores lies within ± it, in their own unit."""
    scores = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))
    within = scores.mean(1).abs() <= mean_within(8) * scores.std(1)
    assert abs(float(within.float().mean()) - 0.95) < 0.005


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(("settings", "answers"), [({}, FEWEST), ({"scale_answers": 5}, 5)])
def test_two_steps_of_training_are_scaled_on_the_fewest_answers(
    model, tmp_path, monkeypatch, capsys, settings, answers
):
    said = [{"prompt": f"Is {n} even?", "chosen": "yes", "rejected": "no"} for n in range(40)]
    write_jsonl(tmp_path / "pairs.jsonl", said)
    scored = []
    usual = RewardModel.normalise
    monkeypatch.setattr(
        RewardModel, "normalise", lambda self, raw: (scored.append(raw), usual(self, raw))[1]
    )
    named = {"model": str(model), "data": str(tmp_path / "pairs.jsonl"), "steps": 2}
    recipe = load_recipe("reward_model", named | settings | {"run": str(tmp_path / "run")})
    with Progress() as progress:
        run = train(recipe, progress=progress)
    summary = json.loads((run / "summary.json").read_text())
    assert [len(raw) for raw in scored] == [answers]
    assert summary["scale_answers"] == answers
    assert f"  {answers} answers to" in capsys.readouterr().out
    assert summary["scale_within"] == pytest.approx(mean_within(min(answers, 40)))


def test_few_prompts_are_answered_several_times(model, tmp_path):
    """Four distinct prompts and eight answers: two to each, none of them thrown away."""
    said = [
        {"prompt": f"Is {n % 4} odd?", "chosen": f"yes {n}", "rejected": "no"} for n in range(8)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", said)
    named = {"model": str(model), "data": str(tmp_path / "pairs.jsonl"), "steps": 1}
    named |= {"data.held_out": 0.25, "run": str(tmp_path / "run")}
    run = train(load_recipe("reward_model", named))
    summary = json.loads((run / "summary.json").read_text())
    assert summary["scale_answers"] == 8
    assert summary["scale_within"] == pytest.approx(scale.mean_within(4))
