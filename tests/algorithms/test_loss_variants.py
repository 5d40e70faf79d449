"""Algorithms whose novelty is the loss: identities, reductions, and marks of the whole batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from backflip.algorithms.discover import ONLINE
from backflip.algorithms.online.cispo import CISPO
from backflip.algorithms.online.clip_cov import ClipCov
from backflip.algorithms.online.dapo import DAPO
from backflip.algorithms.online.dppo import DPPO
from backflip.algorithms.online.grpo import GRPO
from backflip.algorithms.online.gspo import GSPO
from backflip.algorithms.online.kl_cov import KLCov
from backflip.algorithms.online.marking import highest
from backflip.algorithms.online.top_entropy import TopEntropy
from backflip.data.batches import Experience, Scored
from backflip.recipes.load import load_recipe
from backflip.reward.protocol import Judgement
from backflip.reward.shaping import Shaped, Shaping
from tests.algorithms.tabular import off_policy
from tests.algorithms.test_grpo import Fixed, scored

NEW = [
    "dapo",
    "gspo",
    "cispo",
    "sapo",
    "gmpo",
    "dppo",
    "clip_cov",
    "kl_cov",
    "top_entropy",
    "vespo",
]


def moved(algorithm: Any, model: Fixed, batch: Experience) -> torch.Tensor:
    """The gradient of a step's loss with respect to every choice's log π."""
    batch = algorithm.prepare(_Rows(model), batch, 64)
    loss = algorithm.loss(model, batch).losses["policy"]
    (gradient,) = torch.autograd.grad(loss.total / algorithm.counts(batch)["policy"], model.logp)
    return gradient


class _Rows:
    """The same policy for readings in pieces: here one piece."""

    def __init__(self, model: Fixed) -> None:
        self.model = model

    def plan(self, record, token_budget):
        return [torch.arange(len(record))]

    def evaluate(self, steps, want):
        values = self.model.evaluate(steps, want)
        return {name: values[name].detach() for name in want}


def drifted() -> tuple[Scored, Fixed]:
    """Four answers of two prompts, and a policy that has moved on from who drew them."""
    s = scored([1, 0, 1, 0], [0, 0, 1, 1], [1, 3, 2, 2])
    shift = torch.tensor([[0.2, 0, 0], [0.5, -0.4, 0.1], [-0.2, 0.1, 0], [0.0, 0.4, 0.0]])
    return s, Fixed(s.logp_old + torch.where(s.rollouts.mask, shift, 0.0))


def test_dapo_is_grpo_with_three_settings_of_its_own():
    s, model = drifted()
    grpo = GRPO(eps_high=0.28, kl_coef=0.0, reduction="token_mean")
    ours, theirs = DAPO(), grpo
    torch.testing.assert_close(
        moved(ours, model, ours.credit(s)), moved(theirs, model, theirs.credit(s))
    )


def test_gspo_at_length_one_is_grpo():
    s = scored([1, 0, 3, 0], [0, 0, 1, 1], [1, 1, 1, 1])
    model = Fixed(s.logp_old + torch.tensor([[0.3], [0.5], [-0.2], [-0.4]]))
    clips = {"eps_low": 0.2, "eps_high": 0.2}
    grpo, gspo = GRPO(kl_coef=0.0, **clips), GSPO(**clips)
    assert moved(gspo, model, gspo.credit(s)).equal(moved(grpo, model, grpo.credit(s)))
    metrics = [a.loss(model, a.credit(s)).metrics["clip_fraction"].mean() for a in (grpo, gspo)]
    assert metrics[0] == metrics[1] > 0


@pytest.mark.parametrize("name", ["grpo", *NEW])
def test_on_policy_all_have_one_gradient_up_to_their_reduction(name: str):
    """Given the same reduction and credit, they part only once the policy has moved."""
    s = scored([1, 0, 1, 0], [0, 0, 1, 1], [1, 3, 2, 2])
    algorithm = ONLINE[name](reduction="token_mean", kl_coef=0.0)
    if name in ("clip_cov", "top_entropy"):
        algorithm = dataclasses.replace(algorithm, share=1 - 1e-9, **OUT_OF_THE_WAY[name])
    batch = algorithm.credit(s)
    expected = -torch.where(s.rollouts.mask, batch.advantages, 0.0) / s.rollouts.mask.sum()
    torch.testing.assert_close(moved(algorithm, Fixed(s.logp_old), batch), expected)


OUT_OF_THE_WAY: dict[str, dict[str, Any]] = {"clip_cov": {"cov_low": 1e9}, "top_entropy": {}}


def test_an_overlong_answer_has_no_part_in_the_loss_nor_in_its_denominator():
    s, model = drifted()
    cut = dataclasses.replace(s.rollouts, finished=torch.tensor([True, False, True, True]))
    s = dataclasses.replace(s, rollouts=cut)
    algorithm = DAPO(overlong_filter=True)
    batch = algorithm.credit(s)
    gradient = moved(algorithm, model, batch)
    assert float(algorithm.counts(batch)["policy"]) == 5
    assert gradient[1].abs().max() == 0
    assert gradient[0, 0] != 0
    assert batch.advantages[1, 0] != 0, "it still is a sibling whom others are compared with"


def test_a_constant_reduction_divides_by_its_own_length_not_by_the_batchs():
    s, model = drifted()
    short, long = (GRPO(kl_coef=0.0, reduction="constant", length=n) for n in (10, 20))
    batch = short.credit(s)
    torch.testing.assert_close(moved(short, model, batch), 2 * moved(long, model, batch))
    whole = short.loss(model, batch).losses["policy"].detached().mean()
    halves = [short.loss(Fixed(model.logp[r].detach()), batch[r]) for r in (slice(2), slice(2, 4))]
    parts = halves[0].losses["policy"] + halves[1].losses["policy"]
    assert parts.detached().mean() == pytest.approx(whole, abs=1e-7)


def test_dppo_measures_from_the_sampler_and_not_from_the_old_policy():
    """A sampler of another precision: the ratio is to what drew the choice."""
    s = scored([1, 0], [0, 0], [1, 1])
    drawn = dataclasses.replace(s.rollouts, logp=s.logp_old - 0.1)
    s = dataclasses.replace(s, rollouts=drawn)
    model = Fixed(s.logp_old)
    gradient = moved(DPPO(), model, DPPO().credit(s))
    ratio = torch.tensor(0.1).exp()
    torch.testing.assert_close(gradient, torch.stack([-ratio, ratio])[:, None] / 2)


def test_the_quantile_of_entropy_is_over_the_whole_batch():
    """One answer is open everywhere, the other nowhere: a quantile of each would take from both."""
    mask = torch.ones(2, 5, dtype=torch.bool)
    entropy = torch.stack([torch.linspace(2, 3, 5), torch.linspace(0, 1, 5)])
    assert highest(entropy, mask, share=0.4).nonzero().tolist() == [[0, 1], [0, 2], [0, 3], [0, 4]]
    assert highest(entropy, mask, share=1e-6).sum() == 1
    assert not highest(entropy, ~mask, share=0.5).any()


def test_top_entropy_learns_from_its_share_alone():
    table, batch = off_policy(TopEntropy())
    algorithm = TopEntropy(share=0.3)
    batch = algorithm.prepare(table, batch, 40)
    mask = batch.scored.rollouts.mask
    assert int(batch.marked.sum()) == round(0.3 * int(mask.sum()))
    assert float(algorithm.counts(batch)["policy"]) == float(batch.marked.sum())
    entropy = table.evaluate(batch.scored.rollouts.steps, {"entropy"})["entropy"]
    assert entropy[batch.marked].min() >= entropy[mask & ~batch.marked].max()


def test_kl_cov_makes_the_highest_covariances_pay():
    s, model = drifted()
    algorithm, free = KLCov(share=0.2, cov_coef=0.5), KLCov(share=0.2, cov_coef=0.0)
    batch = algorithm.credit(s)
    difference = moved(algorithm, model, batch) - moved(free, model, batch)
    marked = algorithm.prepare(_Rows(model), batch, 64).marked
    assert int(marked.sum()) == 2
    direction = (model.logp - s.logp_old).sign().detach()
    torch.testing.assert_close(difference, 0.5 * direction * marked / 8)


def test_clip_cov_takes_gradients_away_between_its_two_covariances_only():
    s, model = drifted()
    algorithm = ClipCov(share=0.25, cov_low=-10.0, cov_high=10.0)
    batch = algorithm.credit(s)
    marked = algorithm.prepare(_Rows(model), batch, 64).marked
    plain = moved(ClipCov(cov_low=10.0, cov_high=11.0), model, batch)
    assert int(marked.sum()) == 2
    assert (plain[marked] != 0).all(), "those that the clip holds are not drawn"
    torch.testing.assert_close(moved(algorithm, model, batch), plain * ~marked)
    again = algorithm.prepare(_Rows(model), batch, 8).marked
    assert again.equal(marked), "the draw is the same in a resumed run"


def test_the_recipes_have_no_critic_and_refuse_a_single_answer():
    for name in NEW:
        recipe = load_recipe(name, ["reward=some/model", "run=r"])
        assert list(recipe.faults()) == [], name
        assert recipe.algorithm == ONLINE[name](), f"{name}.yaml has other settings than its class"
        alone = load_recipe(name, ["reward=some/model", "answers_per_prompt=1"])
        assert any("answers_per_prompt=8" in fault for fault in alone.faults())


def test_the_last_tokens_before_the_limit_cost_up_to_one():
    """Limit 4, buffer 2: an answer of 3 tokens loses a half, one of 4 all."""
    rollouts = scored([0.0] * 4, [0, 0, 0, 0], [1, 2, 3, 4]).rollouts
    shaping = Shaping(missing_eos=None, overlong_buffer=2)
    judged = Shaped(lambda rollouts: Judgement(torch.ones(4)), shaping, limit=4)(rollouts)
    assert judged.scores.tolist() == [1.0, 1.0, 0.5, 0.0]
    assert judged.parts["unshaped"].tolist() == [1.0] * 4
    wide = load_recipe("dapo", ["reward=some/model", "shaping.overlong_buffer=100"])
    (fault,) = wide.faults()
    assert "shaping.overlong_buffer=9" in fault
    half = load_recipe("dapo", ["reward=some/model", "shaping.overlong_buffer=25"])
    assert "answers pay from their token 24 on" in next(half.remarks(""))


def test_cispos_metric_counts_what_is_capped():
    s, model = drifted()
    batch = CISPO(cap=1.3).credit(s)
    assert CISPO(cap=1.3).loss(model, batch).metrics["clip_fraction"].mean() == 2 / 8
