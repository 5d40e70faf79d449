"""Properties of every online algorithm, on a policy that is a table: new names are found."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from backflip.algorithms.discover import ONLINE
from backflip.errors import UserError
from backflip.training.learner import Learner, Work
from tests.algorithms.tabular import PROMPTS, off_policy, table_loop

NEEDED: dict[str, dict[str, Any]] = {"vapo": {"value_steps": 0, "alpha": 0.9}}
"""Settings without which an algorithm cannot be made, or learns nothing here, by its name."""
ELSEWHERE = {name for name, kind in ONLINE.items() if kind.of_tokens} | {"vineppo"}
"""Algorithms that learn nothing from a score at the end alone, without values: test_enumerated."""


def made(name: str, **settings: Any) -> Any:
    return ONLINE[name](**{**NEEDED.get(name, {}), **settings})


@pytest.mark.parametrize("name", sorted(set(ONLINE) - ELSEWHERE))
def test_it_learns_what_is_rewarded(name: str):
    """Uniform choices earn 1/6 of the reward at most."""
    loop = table_loop(made(name, epochs=2))
    earned = []
    for step in range(1, 16):
        loop.step(step, PROMPTS)
        assert loop.last is not None
        earned.append(float(loop.last.judgement.scores.mean()))
    assert sum(earned[:3]) / 3 < 0.2
    assert sum(earned[-3:]) / 3 > 0.6


@pytest.mark.parametrize("name", sorted(ONLINE))
def test_a_step_is_the_same_however_its_batch_is_cut(name: str):
    """The loss is divided over the optimiser's whole batch, never over a micro-batch."""
    gradients, numbers = [], []
    for budget in (8, 40, 10_000):
        table, experience = off_policy(made(name))
        before = table.logits.detach().clone()
        sgd = torch.optim.SGD(table.parameters(), lr=1.0)
        learner = Learner(table, sgd, token_budget=budget, max_norm=1e9)
        torch.manual_seed(0)
        numbers.append(learner.step(Work(made(name), experience)))
        gradients.append(before - table.logits.detach())
    assert gradients[0].abs().max() > 1e-4
    for gradient, number in zip(gradients[1:], numbers[1:], strict=True):
        torch.testing.assert_close(gradient, gradients[0], atol=1e-6, rtol=1e-4)
        assert number == pytest.approx(numbers[0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", sorted(ONLINE))
def test_the_corrections_weight_scales_what_is_learnt_from_each_answer(name: str):
    """A weight of 2 adds to a step exactly what a weight of 1 adds to one of 0."""
    gradients = []
    for weight in (0.0, 1.0, 2.0):
        table, experience = off_policy(made(name))
        weighed = dataclasses.replace(experience, weight=weight * experience.weight)
        before = table.logits.detach().clone()
        sgd = torch.optim.SGD(table.parameters(), lr=1.0)
        Learner(table, sgd, max_norm=1e9).step(Work(made(name), weighed))
        gradients.append(before - table.logits.detach())
    learnt = gradients[1] - gradients[0]
    assert learnt.abs().max() > 1e-4
    torch.testing.assert_close(gradients[2] - gradients[1], learnt, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(ONLINE))
def test_a_price_of_kl_is_paid_where_it_is_asked_for_or_refused(name: str):
    """Paid in the reward, it moves what is learnt when the reference moves."""
    settings = {"kl_in": "reward", "kl_kind": "k1", "kl_coef": 0.5}
    if "kl_in" not in {field.name for field in dataclasses.fields(ONLINE[name])}:
        return
    if name in {"raft_pp", "maxrl", "gdpo", "grpo_process"}:
        with pytest.raises(UserError, match="kl_in=loss"):
            made(name, **settings)
        return
    algorithm = made(name, **settings)
    moved = []
    for far in (0.0, 1.0):
        _, experience = off_policy(algorithm)
        s = experience.scored
        away = far * torch.arange(len(s.logp_ref))[:, None]
        credited = algorithm.credit(dataclasses.replace(s, logp_ref=s.logp_old - away))
        moved.append(credited.advantages)
    assert (moved[0] - moved[1]).abs().max() > 1e-3
