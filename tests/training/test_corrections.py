"""A sampler that is not the learner: weights by hand, what they do to a step, and who says so."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch

from backflip.algorithms.online.grpo import GRPO
from backflip.algorithms.online.ppo import PPO
from backflip.data.batches import Scored
from backflip.distributed.reading import evaluate_all
from backflip.functional.corrections import effective_share, truncated
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.recipes.load import load_recipe
from backflip.stages.corrections import CORRECTIONS, settled
from backflip.training.corrections import (
    TIS,
    GeometricMask,
    IcePop,
    KLGate,
    NoCorrection,
    SequenceMask,
    TVGate,
    corrected,
)
from tests.algorithms.tabular import PROMPTS, table_loop
from tests.algorithms.test_grpo import Fixed, scored
from tests.algorithms.test_ppo import PROMPTS as REAL_PROMPTS
from tests.algorithms.test_ppo import cast
from tests.generate.test_openai_engine import Letters, engine_at
from tests.generate.vllm import Vllm, serving

OLD = torch.tensor([[0.5, 0.3], [0.5, 0.0], [0.06, 0.5]])
SAMPLER = torch.tensor([[0.1, 0.3], [0.4, 0.0], [0.3, 0.5]])
"""Probabilities of three answers of two, one and two tokens: w = 5, 1; 1.25; 0.2, 1."""


def drawn() -> Scored:
    s = scored([1, 0, 1], [0, 0, 0], [2, 1, 2])
    mask = s.rollouts.mask
    old, sampler = (torch.where(mask, p.log(), 0.0) for p in (OLD, SAMPLER))
    rollouts = dataclasses.replace(s.rollouts, logp=sampler)
    return dataclasses.replace(s, rollouts=rollouts, logp_old=old)


BY_HAND = [
    (NoCorrection(), [1, 1, 1, 1, 1], 0),
    (TIS(), [2, 1, 1.25, 0.2, 1], 1),
    (TIS(cap=10.0), [5, 1, 1.25, 0.2, 1], 0),
    (IcePop(), [5, 1, 1.25, 0, 1], 1),
    (IcePop(high=4.0), [0, 1, 1.25, 0, 1], 2),
    (SequenceMask(), [0, 0, 1.25, 0.2, 0.2], 2),
    (SequenceMask(cap=8.0), [5, 5, 1.25, 0.2, 0.2], 0),
    (GeometricMask(low=0.9, high=1.3), [0, 0, 1.25, 0, 0], 4),
    (TVGate(), [0, 1, 1.25, 0, 1], 2),
    (TVGate(delta=0.15, whole_answers=True), [0, 0, 1.25, 0.2, 1], 2),
]


@pytest.mark.parametrize(("correction", "weights", "held"), BY_HAND)
def test_weights_by_hand(correction, weights, held):
    s = drawn()
    mask = s.rollouts.mask
    experience, metrics = corrected(GRPO().credit(s), correction)
    torch.testing.assert_close(experience.weight[mask], torch.tensor(weights, dtype=torch.float))
    assert metrics["correction_weight"] == pytest.approx(sum(weights) / 5)
    assert metrics["correction_held"] == pytest.approx(held / 5)
    gap = (2 * math.log(5) + math.log(1.25)) / 5
    assert metrics["sampler_gap"] == pytest.approx(gap, rel=1e-5)


def test_the_kl_gate_drops_answers_by_their_mean_divergence():
    """KL of Bernoulli 0.4 from 0.5 is 0.4 log 0.8 + 0.6 log 1.2 = 0.020."""
    s = drawn()
    kept = [KLGate(delta=d)(s).weight[1, 0].item() for d in (0.0201, 0.0202)]
    assert kept[0] == 0
    assert kept[1] == pytest.approx(1.25)
    single = KLGate(delta=0.0202, whole_answers=False)(s)
    assert single.held.tolist() == [[True, False], [False, False], [True, False]]


def test_flash_reinforce_is_its_papers_sum():
    """−(1/B) Σ m A/T Σ ρ log π: B and T count answers that are dropped; KL of 0.4 from 0.5 is 0.02.

    The first and the last have moved by 0.0001 and 0.0004 nats a token, δ = 0.003.
    """
    recipe: Any = load_recipe("flash_reinforce", ["reward=some/model", "run=r"])
    assert list(recipe.faults()) == []
    s = drawn()
    mask = s.rollouts.mask
    old, sampler = ([[0.5, 0.3], [0.5, 1], [0.48, 0.5]], [[0.49, 0.3], [0.4, 1], [0.5, 0.5]])
    rollouts = dataclasses.replace(s.rollouts, logp=torch.tensor(sampler).log())
    s = dataclasses.replace(s, rollouts=rollouts, logp_old=torch.tensor(old).log())
    batch, _ = corrected(recipe.algorithm.credit(s), recipe.correction)
    model = Fixed(s.logp_old)
    loss = recipe.algorithm.loss(model, batch).losses["policy"]
    (loss.total / recipe.algorithm.counts(batch)["policy"]).backward()
    assert model.logp.grad is not None
    paper = [-1 / 18 * 0.5 / 0.49, -1 / 18, 0, -1 / 18 * 0.48 / 0.5, -1 / 18]
    torch.testing.assert_close(model.logp.grad[mask], torch.tensor(paper))


def test_the_weight_scales_the_surrogate_and_neither_kl_nor_denominator():
    s = drawn()
    algorithm = GRPO(kl_coef=0.5)
    plain = algorithm.credit(s)
    doubled = dataclasses.replace(plain, weight=2 * plain.weight)
    far = Fixed(s.logp_old + 0.1)
    losses = [algorithm.loss(far, batch).losses["policy"] for batch in (plain, doubled)]
    kl_alone = (
        GRPO(kl_coef=0.5)
        .loss(far, dataclasses.replace(plain, weight=0 * plain.weight))
        .losses["policy"]
    )
    ours = losses[1].total - kl_alone.total
    torch.testing.assert_close(ours, 2 * (losses[0].total - kl_alone.total))
    assert losses[0].count == losses[1].count


def test_truncated_weights_undo_another_samplers_distribution():
    """Σ μ w f = Σ π f while nothing is cut: the expectation is the learner's, exactly."""
    policy, sampler = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.3, 0.4, 0.3])
    s = scored([1, 0, 1], [0, 0, 0], [1, 1, 1])
    s = dataclasses.replace(
        s,
        rollouts=dataclasses.replace(s.rollouts, logp=sampler.log()[:, None]),
        logp_old=policy.log()[:, None],
    )
    f = torch.tensor([3.0, -1.0, 2.0])
    torch.testing.assert_close((sampler * TIS()(s).weight[:, 0] * f).sum(), (policy * f).sum())


@pytest.mark.parametrize("cap", [math.inf, 2.0])
def test_the_gradient_of_weighed_choices_by_enumeration(cap: float):
    """E_μ[w·A·∇log π] over three choices is ∇E_π[A] below the cap, and short of it by what is cut.

    With μ = (0.2, 0.4, 0.4) and π = (0.5, 0.3, 0.2), w is (2.5, 0.75, 0.5).
    """
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=torch.double).log().requires_grad_()
    sampler = torch.tensor([0.2, 0.4, 0.4], dtype=torch.double)
    worth = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)
    logp = logits.log_softmax(-1)
    weight = truncated((logp.detach() - sampler.log())[:, None], cap=cap).weight[:, 0]
    (estimate,) = torch.autograd.grad(
        (sampler * weight * worth * logp).sum(), logits, retain_graph=True
    )
    (lost,) = torch.autograd.grad(
        ((2.5 - min(cap, 2.5)) * 0.2 * worth[0] * logp[0]), logits, retain_graph=True
    )
    (exact,) = torch.autograd.grad((logp.exp() * worth).sum(), logits)
    torch.testing.assert_close(estimate + lost, exact, atol=1e-6, rtol=0)


def test_the_effective_share_of_weights_by_hand():
    """Four equal weights are worth four; of (1, 1, 0, 0) half; one that has it all a quarter."""
    mask = torch.tensor([[True, True], [True, True], [False, False]])
    for weights, share in (
        ([[0.7, 0.7], [0.7, 0.7]], 1.0),
        ([[1, 1], [0, 0]], 0.5),
        ([[3, 0], [0, 0]], 0.25),
        ([[0, 0], [0, 0]], 0.0),
    ):
        weight = torch.tensor([*weights, [9.0, 9.0]])
        assert effective_share(weight, mask) == pytest.approx(share)


class Shifted:
    """A sampler whose weights are another's: what it draws and states is a little off."""

    exact = False

    def __init__(self, sampler) -> None:
        self.sampler = sampler

    def __call__(self, prompts, *, seed):
        rollouts = self.sampler(prompts, seed=seed)
        off = 0.3 * torch.randn(rollouts.logp.shape, generator=torch.Generator().manual_seed(seed))
        return dataclasses.replace(rollouts, logp=rollouts.logp + off)

    def sync(self, policy) -> None:
        self.sampler.sync(policy)


def test_a_foreign_samplers_answers_are_read_anew_by_the_learner():
    loop = table_loop(GRPO())
    before = loop.learner.model.evaluate
    loop.sampler, loop.correction = Shifted(loop.sampler), TIS()
    rollouts = loop.sampler(PROMPTS, seed=loop.seed + 1_000_003)
    with torch.no_grad():
        own = before(rollouts.steps, {"logp"})["logp"]
    metrics = loop.step(1, PROMPTS)
    assert loop.last is not None
    s, weight = loop.last.experience.scored, loop.last.experience.weight
    torch.testing.assert_close(s.logp_old, own)
    assert s.rollouts.logp.equal(rollouts.logp)
    ratio = (own - rollouts.logp).exp().clamp(max=2.0)
    torch.testing.assert_close(weight[s.rollouts.mask], ratio[s.rollouts.mask])
    assert 0.1 < metrics["sampler_gap"] < 0.4
    assert metrics["clip_fraction"] == 0, "the ratio of the step is to the learner itself"


def test_the_embedded_sampler_is_the_learner_and_is_not_read_anew():
    """Its log-probabilities, recomputed, differ by less than 1e-4; no number of a step changes."""
    loop = cast(epochs=1)
    rollouts = loop.sampler(REAL_PROMPTS, seed=0)
    own = evaluate_all(loop.learner.model, rollouts, {"logp"}, 64)["logp"]
    assert (own - rollouts.logp)[rollouts.mask].abs().max() < 1e-4
    assert loop.sampler.exact
    metrics = loop.step(1, REAL_PROMPTS)
    assert loop.last is not None
    assert loop.last.experience.scored.logp_old is loop.last.experience.scored.rollouts.logp
    assert (loop.last.experience.weight == 1).all()
    assert "correction_weight" not in metrics


@pytest.mark.filterwarnings("ignore:the server at")
def test_a_server_with_the_learners_weights_has_weights_of_one():
    """Through a real socket: what it states and what the learner reads differ by rounding alone."""
    loop = cast(epochs=1)
    served = Vllm(copy.deepcopy(loop.learner.model.model), tokenizer=Letters())
    with serving(served) as server:
        engine = engine_at(server, loop.learner.model.model)
        params = SamplingParams(max_tokens=6, stop_tokens=(2,))
        loop.sampler, loop.correction = Sampler(engine=engine, params=params, group_size=4), TIS()
        metrics = loop.step(1, REAL_PROMPTS)
    assert metrics["sampler_gap"] < 1e-4
    assert metrics["correction_weight"] == pytest.approx(1, abs=1e-4)
    assert metrics["correction_held"] == 0


@pytest.mark.parametrize("name", sorted(CORRECTIONS))
def test_each_name_is_a_setting(name):
    recipe = load_recipe("grpo", ["reward=some/model", "run=r", f"correction={name}"])
    assert isinstance(recipe.correction, CORRECTIONS[name])
    assert list(recipe.faults()) == []


def test_who_is_not_the_learner_is_weighed_by_default_and_it_is_said():
    assert settled(None, PPO(), exact=True) == (NoCorrection(), "")
    chosen, said = settled(None, PPO(), exact=False)
    assert chosen == TIS(cap=2.0)
    assert "up to 2" in said
    assert settled(IcePop(), PPO(), exact=False) == (IcePop(), "")
    assert settled(NoCorrection(), PPO(), exact=False) == (NoCorrection(), "")


def test_an_algorithm_that_measures_from_the_sampler_is_not_weighed_twice():
    words = ["reward=some/model", "run=r"]
    (fault,) = load_recipe("dppo", [*words, "correction=tis"]).faults()
    assert "correction=none" in fault
    recipe = load_recipe("dppo", words)
    chosen, said = settled(recipe.correction, recipe.algorithm, exact=False)
    assert isinstance(chosen, NoCorrection)
    assert "DPPO" in said


def test_bounds_that_cannot_be_are_refused():
    recipe = load_recipe("grpo", ["reward=some/model", "run=r", "correction={name: tis, cap: 0.5}"])
    (fault,) = recipe.faults()
    assert "correction.cap is 0.5" in fault
