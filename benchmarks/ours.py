"""Backflip's side: ``python ours.py WORK WORKLOAD.json``, one work in a process of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from rates import product_rate, training_operations
from timing import LR, answer, peak_gb, score_head, timed, versions
from workloads import ANSWER_TOKENS, GROUP, Demonstration, Pair, Prompt, Workload

import backflip
from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.reward.bradley_terry import BradleyTerry
from backflip.algorithms.sft import SFT
from backflip.data.batches import ComparisonBatch, DemonstrationBatch, TokenSteps
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.heads import RewardModel, ValueModel
from backflip.models.load import load_causal
from backflip.reward.model import RewardModelSource
from backflip.training.learner import Learner, Work, make_optimizer
from backflip.training.online import OnlineLoop
from backflip.training.values import Critic


def reward_model(load: Workload) -> dict[str, Any]:
    """Bradley-Terry on 8 pairs a step, all weights."""
    batches = [comparisons(rows) for rows in load["pairs"]]
    return train(load, new_reward_model(load), BradleyTerry(), batches, lambda batch: 0)


def sft(load: Workload) -> dict[str, Any]:
    """Imitate the last reply of 8 conversations a step, all weights."""
    model = CausalPolicy(load_causal(load["model"], precision=load["dtype"]))
    batches = [demonstrations(rows) for rows in load["demonstrations"]]
    return train(load, model, SFT(), batches, lambda batch: int(batch.mask.sum()))


def train(
    load: Workload,
    model: Any,
    objective: Any,
    batches: list[Any],
    head_rows: Callable[[Any], int],
) -> dict[str, Any]:
    """Steps on the batches; the rate of matrix products is measured before and after them.

    ``head_rows``: rows of a batch that the vocabulary head runs on.
    """
    config, dtype = model.trunk.config, getattr(torch, load["dtype"])
    before = product_rate(config, dtype)
    learner = new_learner(model)
    seconds, metrics = timed(lambda batch: learner.step(Work(objective, batch)), batches)
    tokens = [sum(map(len, _sequences(batch))) for batch in batches[1:]]
    found = result(seconds, tokens)
    return found | {
        "losses": [step["loss"] for step in metrics],
        "operations": [
            training_operations(model, batch, head_rows=head_rows(batch)) for batch in batches[1:]
        ],
        "product_rate": max(before, product_rate(config, dtype)),
    }


def sampling(load: Workload) -> dict[str, Any]:
    """8 answers of at most 64 tokens to each of 2 prompts, from the model's own distribution."""
    engine = TorchEngine(load_causal(load["model"], precision=load["dtype"]))
    params = SamplingParams(max_tokens=ANSWER_TOKENS, stop_tokens=(load["stop"],))

    def step(prompts: list[Prompt]) -> int:
        rows = [prompt["tokens"] for prompt in prompts]
        return sum(len(a.tokens) for a in engine.generate(rows, params, group=GROUP, seed=0))

    seconds, tokens = timed(step, load["prompts"])
    return result(seconds, tokens[1:])


def ppo(load: Workload) -> dict[str, Any]:
    """Sample, judge, and teach policy and critic once; four models, all weights."""
    policy = CausalPolicy(load_causal(load["model"], precision=load["dtype"]))
    critic = ValueModel(load_causal(load["model"], precision=load["dtype"]))
    stop = (load["stop"],)
    params = SamplingParams(max_tokens=ANSWER_TOKENS, min_tokens=ANSWER_TOKENS, stop_tokens=stop)
    loop = OnlineLoop(
        learner=new_learner(policy),
        reference=policy.reference(),
        sampler=Sampler(engine=TorchEngine(policy.model), params=params, group_size=GROUP),
        reward=RewardModelSource(new_reward_model(load)),
        values=Critic(new_learner(critic)),
        algorithm=PPO(epochs=1),
    )
    batches = [[prompt["tokens"] for prompt in prompts] for prompts in load["prompts"]]

    numbers = itertools.count(1)

    def step(prompts: list[list[int]]) -> int:
        metrics = loop.step(next(numbers), prompts)
        assert loop.last is not None
        assert metrics["grad_norm"] > 0, "nothing was learnt"
        return int(loop.last.experience.scored.rollouts.mask.sum())

    seconds, tokens = timed(step, batches)
    return result(seconds, tokens[1:])


def new_reward_model(load: Workload) -> RewardModel:
    model = RewardModel(load_causal(load["model"], precision=load["dtype"]))
    with torch.no_grad():
        model.score.weight.copy_(score_head(model.score.in_features))
    return model


def new_learner(model: Any) -> Learner:
    return Learner(model, make_optimizer(model, lr=LR))


def comparisons(rows: list[Pair]) -> ComparisonBatch:
    answers = [[row["chosen"], row["rejected"]] for row in rows]
    return ComparisonBatch.of([row["prompt"] for row in rows], answers, [[0, 1]] * len(rows))


def demonstrations(rows: list[Demonstration]) -> DemonstrationBatch:
    steps = TokenSteps.of([row["prompt"] for row in rows], [row["answer"] for row in rows])
    return DemonstrationBatch(steps, steps.mask, torch.ones(len(rows)))


def _sequences(batch: ComparisonBatch | DemonstrationBatch) -> list[list[int]]:
    steps = batch.sequences()[0]
    return [steps.sequence(row) for row in range(len(steps))]


def result(seconds: list[float], tokens: list[int]) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "tokens": tokens,
        "gb": peak_gb(),
        "versions": versions("torch", "transformers") | {"backflip": backflip.__version__},
    }


if __name__ == "__main__":
    import ours_direct
    import ours_online

    mine = {"reward_model": reward_model, "sft": sft, "sampling": sampling, "ppo": ppo}
    answer(mine | ours_direct.WORKS | ours_online.WORKS)
