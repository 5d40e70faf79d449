"""Observations change no advantage: whatever the environment writes between two turns."""

from __future__ import annotations

import pytest
import torch

from backflip.algorithms.discover import ONLINE
from backflip.data.batches import Rollouts, Scored, TokenSteps

TURNS = torch.tensor([[2, 3], [1, 2], [3, 1], [2, 2]])
"""Tokens of two turns in each of four episodes, two for each of two prompts."""
REWARDS = torch.tensor([[0.0, 1.0], [0.5, 0.0], [1.0, 1.0], [0.0, 0.25]])


def batch(between: int) -> Scored:
    """The episodes, with so many tokens of the environment between their turns."""
    places = [[*range(a), *range(a + between, a + between + b)] for a, b in TURNS.tolist()]
    width = max(row[-1] + 1 for row in places)
    mask = torch.zeros(len(places), width, dtype=torch.bool)
    noise = torch.linspace(-3, 3, width).expand(len(places), width)
    logp, values, rewards = noise.clone(), noise.clone(), torch.zeros(mask.shape)
    for row, own in enumerate(places):
        mask[row, own] = True
        logp[row, own] = -torch.arange(1.0, len(own) + 1) / 5
        values[row, own] = torch.arange(len(own)) / 10
        rewards[row, own[int(TURNS[row, 0]) - 1]] = REWARDS[row, 0]
        rewards[row, own[-1]] = REWARDS[row, 1]
    logp = torch.where(mask, logp, 0.0)
    steps = TokenSteps.of([[1]] * len(places), [[2] * (row[-1] + 1) for row in places])
    ended = torch.ones(len(places), dtype=torch.bool)
    rollouts = Rollouts(steps, mask, logp, torch.tensor([0, 0, 1, 1]), ended)
    return Scored(rollouts, rewards, logp, torch.where(mask, logp - 0.1, noise), values)


class Fixed:
    """A policy whose log-probabilities are a parameter, observations' too."""

    def __init__(self, logp: torch.Tensor) -> None:
        self.logp = logp.clone().requires_grad_()

    def plan(self, batch, token_budget):
        return [torch.arange(len(batch))]

    def evaluate(self, steps, want):
        return {name: self.logp if name == "logp" else self.logp * 0 for name in want}


@pytest.mark.parametrize("name", sorted(ONLINE))
def test_observations_change_no_advantage_and_no_gradient(name: str):
    algorithm = ONLINE[name]()
    found = []
    for between in (1, 9):
        scored = batch(between)
        mask, experience = scored.rollouts.mask, algorithm.credit(scored)
        model = Fixed(torch.where(mask, scored.logp_old + 0.05, -2.0))
        ready = algorithm.prepare(model, experience, 4096)
        losses = algorithm.loss(model, ready).losses.values()
        sum(one.total / one.count for one in losses).backward()
        gradient = model.logp.grad
        assert gradient is not None
        assert (gradient[~mask] == 0).all(), "what the environment wrote is not learnt"
        found.append((experience.advantages[mask], experience.returns[mask], gradient[mask]))
    for short, long in zip(*found, strict=True):
        torch.testing.assert_close(short, long)
