"""Three rounds of sample, choose and DPO raise what the scorer likes."""

from __future__ import annotations

import torch

from backflip.algorithms.preference.dpo import DPO
from backflip.data.ragged import Ragged
from backflip.data.referenced import ReferencedComparisons
from backflip.distributed.reading import evaluate_all
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.reward.protocol import Judgement
from backflip.sampling.choosing import BestWorst, Filters
from backflip.sampling.draw import Round
from backflip.training.learner import Learner, Work, make_optimizer
from tests.models.families import tiny

PROMPTS = Ragged.of([[1, 3 + i, 9, 40 - i] for i in range(12)])
ANY = Filters(cut_off=True, empty=True)


def share_of_low_tokens(rollouts):
    low = [float((row < 20).float().mean()) for row in rollouts.steps.answer.rows()]
    return Judgement(torch.tensor(low))


def learn(policy, comparisons):
    """One epoch of DPO on one round, the reference being the policy as the round found it."""
    steps = comparisons.answers.values
    logp = evaluate_all(policy.reference(), steps, {"logp"}, 512)["logp"]
    total = (logp * comparisons.mask.values).sum(-1)
    batch = ReferencedComparisons(comparisons, Ragged(total, comparisons.answers.offsets))
    learner = Learner(policy, make_optimizer(policy, lr=2e-3), token_budget=512)
    for _ in range(6):
        learner.step(Work(DPO(beta=0.1), batch))


def test_three_rounds_of_dpo_raise_the_score_round_by_round(tmp_path):
    torch.set_num_threads(1)
    policy = CausalPolicy(tiny("llama"))
    params = SamplingParams(max_tokens=6, stop_tokens=(2,))
    sampler = Sampler(engine=TorchEngine(policy.model), params=params, group_size=6)
    rewards = []
    for number in range(4):
        here = Round(folder=tmp_path / f"round_{number}", prompts=PROMPTS, seed=number, chunk=6)
        scoring = here.sample(sampler, share_of_low_tokens)
        rewards.append(scoring.metrics()["reward"])
        if number < 3:
            chosen = BestWorst()(scoring.sampled, filters=ANY)
            learn(policy, chosen.data)
            sampler.sync(policy)
    assert rewards == sorted(rewards)
    assert rewards[3] > rewards[0] + 0.2
