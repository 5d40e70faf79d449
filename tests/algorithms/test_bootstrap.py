"""An ensemble of heads: whose rows each learns from, what is divided by, what is saved."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from backflip.algorithms.base import Objective
from backflip.algorithms.bootstrap import Bootstrapped, bootstrap_weights
from backflip.algorithms.evenly import EvenlyDivided
from backflip.algorithms.reward.bradley_terry import BradleyTerry
from backflip.data.batches import ComparisonBatch, Rollouts, TokenSteps
from backflip.models.heads import RewardModel
from backflip.models.load import load_causal, load_tokenizer
from backflip.models.save import load_reward_model, save_reward_model
from backflip.reward.ensemble import Ensemble
from backflip.reward.model import RewardModelSource
from backflip.reward.protocol import Judgement
from tests.models.families import tiny
from tests.recipes.tiny import tiny_model


def pairs(number: int) -> ComparisonBatch:
    answers = [[[7, 8], [9, 5, 6]]] * number
    return ComparisonBatch.of([[3, 4 + i] for i in range(number)], answers, [[0, 1]] * number)


class Scores:
    """Scores of heads, as a model that reads them off a table."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores = scores.clone().requires_grad_()

    def raw_scores(self, steps: TokenSteps) -> torch.Tensor:
        del steps
        return self.scores


def test_copies_of_a_prompt_are_poisson_and_those_of_members_apart():
    drawn = bootstrap_weights(pairs(4000), 2)
    for member in drawn.T:
        shares = {k: v / 4000 for k, v in Counter(member.tolist()).items()}
        for copies in range(4):
            assert shares[copies] == pytest.approx(math.exp(-1) / math.factorial(copies), abs=0.03)
    assert abs(float(torch.corrcoef(drawn.T)[0, 1])) < 0.06


def test_rows_of_one_prompt_go_together_whatever_stands_around_them():
    batch = pairs(6)
    again = batch[torch.tensor([5, 2, 2])]
    torch.testing.assert_close(bootstrap_weights(again, 3), bootstrap_weights(batch, 3)[[5, 2, 2]])
    assert not torch.equal(bootstrap_weights(batch, 3), bootstrap_weights(batch, 3, seed=1))


def test_each_head_learns_from_its_own_sample_alone():
    """The gradient of a head's score of a row is its copies times that of a single head."""
    batch, scores = pairs(8), torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    drawn = bootstrap_weights(batch, 3)
    model = Scores(scores)
    outcome = Bootstrapped(objective=BradleyTerry(), members=3).loss(model, batch)
    outcome.losses["preference"].total.backward()
    for member in range(3):
        single = Scores(scores[:, [member]])
        BradleyTerry().loss(single, batch).losses["preference"].total.backward()
        copies = drawn[:, member].repeat_interleave(2)
        expected = single.scores.grad[:, 0] * copies / 3
        torch.testing.assert_close(model.scores.grad[:, member], expected)


def test_the_divisor_is_that_of_the_objective_and_the_held_out_head_learns_alone():
    batch = pairs(8)
    batch = dataclasses.replace(batch, head=torch.tensor([0, 3] * 4))
    model = Scores(torch.randn(16, 4, generator=torch.Generator().manual_seed(1)))
    objective = Bootstrapped(objective=BradleyTerry(), members=3)
    outcome = objective.loss(model, batch)
    assert float(outcome.losses["preference"].count) == 8.0
    assert objective.counts(batch) == BradleyTerry().counts(batch)
    outcome.losses["preference"].total.backward()
    held = batch.head.repeat_interleave(2) == 3
    assert model.scores.grad[held, :3].abs().sum() == 0
    assert (model.scores.grad[held, 3] != 0).all()
    assert model.scores.grad[~held, 3].abs().sum() == 0


def test_steps_of_weighed_rows_add_up_to_the_weighed_mean_of_the_data():
    """Two batches, heavy rows in one of them: the mean of the steps' losses is that of all rows."""
    batch = dataclasses.replace(pairs(8), weight=torch.tensor([0.5] * 6 + [2.5] * 2))
    scores = torch.randn(16, 1, generator=torch.Generator().manual_seed(2))

    def mean(objective: Objective, rows: slice) -> float:
        model = Scores(scores[2 * rows.start : 2 * rows.stop])
        return objective.loss(model, batch[rows]).losses["preference"].detached().mean()

    even, plain = EvenlyDivided(objective=BradleyTerry()), BradleyTerry()
    halves = (mean(even, slice(0, 4)) + mean(even, slice(4, 8))) / 2
    assert halves == pytest.approx(mean(plain, slice(0, 8)), rel=1e-6)
    within = (mean(plain, slice(0, 4)) + mean(plain, slice(4, 8))) / 2
    assert within != pytest.approx(mean(plain, slice(0, 8)), rel=1e-3)


def rollouts() -> Rollouts:
    steps = TokenSteps.of([[3, 4], [3, 5], [3, 6]], [[7, 8], [9], [10, 11]])
    return Rollouts(
        steps=steps,
        mask=steps.mask,
        logp=torch.zeros(steps.mask.shape),
        group=torch.arange(3),
        finished=torch.ones(3, dtype=torch.bool),
    )


@pytest.mark.parametrize("how", ["mean", "worst", "uncertainty"])
def test_heads_are_combined_as_separate_models_are(how):
    """On each head's own scale; the head behind the members is watched and has no say."""
    torch.manual_seed(0)
    model = RewardModel(tiny("llama"), heads=4, members=3)
    model.normalise(torch.randn(20, 4) * torch.tensor([1.0, 10.0, 100.0, 1.0]))
    said = RewardModelSource(model, how=how, uncertainty_coef=0.5)(rollouts())
    scores = model.scores(rollouts().steps).detach()
    members = [lambda _, m=m: Judgement(scores[:, m]) for m in range(3)]
    expected = Ensemble(members, how, 0.5)(rollouts())
    torch.testing.assert_close(said.scores, expected.scores)
    torch.testing.assert_close(said.parts["spread"], expected.parts["spread"])
    torch.testing.assert_close(said.parts["heldout"], scores[:, 3])


def test_the_members_of_a_saved_model_come_back(tmp_path: Path):
    base = str(tiny_model(tmp_path / "base"))
    model = RewardModel(load_causal(base), heads=4, members=3)
    save_reward_model(model, load_tokenizer(base), tmp_path)
    again = load_reward_model(str(tmp_path / "model"))
    assert (again.members, again.heads) == (3, 4)
    torch.testing.assert_close(
        again.raw_scores(rollouts().steps), model.raw_scores(rollouts().steps)
    )
