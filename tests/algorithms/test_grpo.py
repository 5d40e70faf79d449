"""GRPO: by hand, by identities, and that it learns on a real (tiny) language model."""

from __future__ import annotations

import pytest
import torch

from backflip.algorithms.online.grpo import GRPO
from backflip.data.batches import Rollouts, Scored, TokenSteps
from backflip.functional.credit import at_end
from backflip.recipes.load import load_recipe
from backflip.training.values import NoValues
from tests.algorithms.test_ppo import PROMPTS, cast


def scored(scores: list[float], group: list[int], lengths: list[int]) -> Scored:
    """Answers of so many tokens, drawn by the reference itself."""
    steps = TokenSteps.of([[1]] * len(scores), [[2] * n for n in lengths])
    logp = torch.where(steps.mask, -1.0, 0.0)
    ended = torch.ones(len(scores), dtype=torch.bool)
    rollouts = Rollouts(steps, steps.mask, logp, torch.tensor(group), ended)
    rewards = at_end(torch.tensor(scores, dtype=torch.float), steps.mask)
    return Scored(rollouts, rewards, logp, logp, torch.zeros_like(logp))


class Fixed:
    """A policy whose log-probabilities are a parameter."""

    def __init__(self, logp: torch.Tensor) -> None:
        self.logp = logp.clone().requires_grad_()

    def evaluate(self, steps, want):
        return {"logp": self.logp, "entropy": torch.zeros_like(self.logp)}


def test_an_answer_is_as_good_as_it_is_better_than_its_siblings():
    """Scores 1, 2, 3 of one prompt: deviation √(2/3); 5 and 5 of another teach nothing."""
    credit = GRPO().credit(scored([1, 2, 3, 5, 5], [0, 0, 0, 1, 1], [1, 2, 2, 1, 1]))
    far = (3 / 2) ** 0.5
    expected = torch.tensor([[-far, 0], [0, 0], [far, far], [0, 0], [0, 0]])
    torch.testing.assert_close(credit.advantages, expected)
    plain = GRPO(divide_by_std=False).credit(scored([1, 2, 3], [0, 0, 0], [1, 1, 1]))
    assert plain.advantages[:, 0].tolist() == [-1, 0, 1]


def test_every_answer_weighs_the_same_however_long_it_is():
    """At ratio 1 the gradient of a token is −A / (its answer's tokens), over the answers."""
    batch = GRPO(kl_coef=0.0).credit(scored([1, 3], [0, 0], [1, 4]))
    model = Fixed(batch.scored.logp_old)
    loss = GRPO(kl_coef=0.0).loss(model, batch).losses["policy"]
    assert float(loss.count) == float(GRPO().counts(batch)["policy"]) == 2
    (loss.total / loss.count).backward()
    assert model.logp.grad is not None
    torch.testing.assert_close(
        model.logp.grad, torch.tensor([[0.5, 0, 0, 0], [-0.125, -0.125, -0.125, -0.125]])
    )


def test_the_leash_stands_in_the_loss_as_k3():
    """One token whose log π lies d above the reference: e^−d + d − 1 (Schulman, 2020)."""
    algorithm, d = GRPO(kl_coef=0.5), 0.7
    batch = algorithm.credit(scored([5, 5], [0, 0], [1, 1]))
    model = Fixed(batch.scored.logp_old + d)
    loss = algorithm.loss(model, batch).losses["policy"]
    k3 = torch.tensor(-d).exp() + d - 1
    torch.testing.assert_close((loss.total / loss.count).detach(), 0.5 * k3)


def test_a_tiny_policy_learns_what_is_rewarded():
    loop = cast()
    loop.values, loop.algorithm = NoValues(), GRPO(epochs=2, kl_coef=0.0)
    rewards = []
    for step in range(1, 31):
        loop.step(step, PROMPTS)
        assert loop.last is not None
        rewards.append(float(loop.last.experience.scored.total().mean()))
    assert sum(rewards[-5:]) / 5 > 0.2 + sum(rewards[:5]) / 5


def test_its_recipe_has_no_critic_and_refuses_a_single_answer():
    recipe = load_recipe("grpo", ["reward=some/model", "run=r"])
    assert type(recipe.values).__name__ == "NoValues"
    assert list(recipe.faults()) == []
    (fault,) = load_recipe("grpo", ["reward=some/model", "answers_per_prompt=1"]).faults()
    assert "answers_per_prompt=8" in fault


@pytest.mark.parametrize("name", ["critic", "shared", "monte_carlo"])
def test_values_that_would_learn_for_nothing_are_refused(name: str):
    faults = list(load_recipe("grpo", ["reward=some/model", f"values={name}"]).faults())
    assert len(faults) == 1
