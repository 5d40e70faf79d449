"""KL in the reward or in the loss: by its gradient, by hand, and what has no meaning is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from backflip.algorithms.online.grpo import GRPO
from backflip.algorithms.online.one_step_ppo import OneStepPPO
from backflip.algorithms.online.ppo import PPO
from backflip.data.batches import Experience, Rollouts, Scored, TokenSteps
from backflip.errors import UserError
from backflip.recipes.load import load_recipe
from tests.algorithms.tabular import PROMPTS, table_loop
from tests.algorithms.test_grpo import scored

POLICY = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
REF = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
OLD = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


class Enumerated:
    """A policy over three tokens whose batch holds each token once, as an answer of its own."""

    def __init__(self) -> None:
        self.logits = POLICY.log().requires_grad_()

    def evaluate(self, steps, want):
        logp = self.logits.log_softmax(0)[:, None]
        return {"logp": logp, "entropy": torch.zeros_like(logp)}

    def gradient(self, value):
        return torch.autograd.grad(value, self.logits)[0]


def expected_gradient(algorithm: Any, drawn_from: torch.Tensor) -> torch.Tensor:
    """Of Σ p(token) · loss(token), for tokens that are drawn from ``drawn_from``."""
    steps = TokenSteps.of([[1]] * 3, [[2], [3], [4]])
    mask = steps.mask
    old, zero = drawn_from.log()[:, None], torch.zeros(3, 1, dtype=torch.float64)
    rollouts = Rollouts(steps, mask, old, torch.arange(3), torch.ones(3) > 0)
    s = Scored(rollouts, zero, old, REF.log()[:, None], zero)
    model = Enumerated()
    kl = algorithm.kl_loss(model.evaluate(steps, set()), Experience(s, zero, zero))
    return model.gradient((drawn_from * kl[:, 0]).sum())


def exact_gradient(reverse: bool = True) -> torch.Tensor:
    """Of KL(π‖ref), or of KL(ref‖π)."""
    model = Enumerated()
    logp = model.logits.log_softmax(0)
    kl = (logp.exp() * (logp - REF.log())) if reverse else REF * (REF.log() - logp)
    return model.gradient(kl.sum())


@pytest.mark.parametrize("kind", [GRPO, PPO])
def test_each_estimate_in_the_loss_follows_the_kl_that_it_is_said_to(kind: Any):
    k2 = kind(kl_in="loss", kl_kind="k2", kl_coef=0.5)
    torch.testing.assert_close(expected_gradient(k2, POLICY), 0.5 * exact_gradient())
    k3 = kind(kl_in="loss", kl_kind="k3", kl_coef=0.5)
    torch.testing.assert_close(expected_gradient(k3, POLICY), 0.5 * exact_gradient(reverse=False))


def test_times_the_ratio_k3_follows_the_reverse_kl_even_on_another_policys_choices():
    unbiased = GRPO(kl_kind="k3", kl_unbiased=True, kl_coef=1.0)
    torch.testing.assert_close(expected_gradient(unbiased, OLD), exact_gradient())
    torch.testing.assert_close(expected_gradient(unbiased, POLICY), exact_gradient())
    biased = expected_gradient(GRPO(kl_kind="k3", kl_coef=1.0), OLD)
    assert (biased - exact_gradient()).abs().max() > 0.1


def test_k1_in_the_reward_of_grpo_is_taken_off_before_siblings_are_compared():
    """Scores 1 and 1, the second answer 0.5 nats from the reference: 1 against 0.9."""
    s = scored([1.0, 1.0], [0, 0], [1, 1])
    far = Scored(
        s.rollouts, s.rewards, s.logp_old, s.logp_old - torch.tensor([[0.0], [0.5]]), s.values
    )
    algorithm = GRPO(kl_in="reward", kl_kind="k1", kl_coef=0.2, divide_by_std=False)
    torch.testing.assert_close(algorithm.credit(far).advantages, torch.tensor([[0.05], [-0.05]]))
    assert GRPO(kl_coef=0.2).credit(far).advantages.abs().max() == 0


def test_ppo_with_the_kl_in_the_loss_pays_none_in_the_reward():
    """Without reward and values every advantage is 0; the leash alone moves the policy."""
    s = scored([0.0, 0.0], [0, 0], [2, 1])
    far = Scored(s.rollouts, s.rewards, s.logp_old, s.logp_old - 1.0, s.values)
    assert PPO().credit(far).advantages.abs().max() > 0
    assert PPO(kl_in="loss", kl_kind="k3").credit(far).advantages.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kl_in": "loss", "kl_kind": "k1"}, "kl_in=reward"),
        ({"kl_in": "reward", "kl_kind": "k2"}, "kl_kind=k1"),
        ({"kl_in": "reward", "kl_kind": "k3"}, "kl_kind=k1"),
        ({"kl_in": "loss", "kl_kind": "k2", "kl_unbiased": True}, "kl_unbiased=false"),
        ({"kl_in": "reward", "kl_kind": "k1", "kl_unbiased": True}, "kl_unbiased=false"),
        ({"dual_clip": 1.1}, "dual_clip=3"),
    ],
)
@pytest.mark.parametrize("kind", ["grpo", "ppo", "one_step_ppo"])
def test_a_pair_without_meaning_is_refused_with_a_way_out(
    kind: str, settings: dict[str, Any], said: str
):
    words = [f"algorithm.{name}={str(value).lower()}" for name, value in settings.items()]
    with pytest.raises(UserError, match=said) as refused:
        load_recipe(kind, ["reward=some/model", *words])
    assert "\n" not in str(refused.value)


def test_a_constant_reduction_needs_its_length_and_a_recipe_has_one():
    with pytest.raises(UserError, match="length"):
        GRPO(reduction="constant")
    words = ["reward=some/model", "algorithm.reduction=constant", "sampling.max_tokens=33"]
    assert load_recipe("grpo", words).algorithm.length == 33


@pytest.mark.parametrize(
    ("kind", "old"),
    [
        (
            GRPO,
            {"epochs": 2, "eps_low": 0.1, "eps_high": 0.3, "kl_coef": 0.1, "divide_by_std": False},
        ),
        (
            PPO,
            {"epochs": 1, "eps": 0.1, "kl_coef": 0.1, "kl_target": None, "gamma": 0.9, "lam": 0.9},
        ),
        (OneStepPPO, {"epochs": 1, "eps": 0.1, "entropy_coef": 0.01, "whiten_advantages": False}),
    ],
)
def test_a_checkpoint_that_knows_none_of_this_goes_on(kind: Any, old: dict[str, Any]):
    loop = table_loop(kind())
    state = loop.state_dict()
    loop.load_state_dict({**state, "algorithm": old})
    assert loop.algorithm == kind(**old)
    loop.step(1, PROMPTS)
