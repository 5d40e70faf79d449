"""Backflip's side: ``python ours.py WORK WORKLOAD.json``, one work in a process of its own."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from rates import product_rate, training_operations
from timing import ALPHA, LR, RANK, answer, now, peak_gb, score_head, timed, versions
from workloads import ANSWER_TOKENS, GROUP, MAX_LENGTH, Demonstration, Pair, Prompt, Workload

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
from backflip.models.lora import LoraSettings, add_lora
from backflip.models.packing import token_budget_here
from backflip.reward.model import RewardModelSource
from backflip.training.learner import Learner, Work, make_optimizer
from backflip.training.online import OnlineLoop
from backflip.training.values import Critic


def reward_model(load: Workload) -> dict[str, Any]:
    """Bradley-Terry on 8 pairs a step, all weights."""
    batches = [comparisons(rows) for rows in load["pairs"]]
    return train(load, new_reward_model(load), BradleyTerry(), batches)


def sft(load: Workload) -> dict[str, Any]:
    """Imitate the last reply of the conversations of each step."""
    batches = [demonstrations(rows) for rows in load["demonstrations"]]
    return train(load, new_policy(load), SFT(), batches)


def train(load: Workload, model: Any, objective: Any, batches: list[Any]) -> dict[str, Any]:
    """Steps on the batches; the rate of matrix products, if it is not known yet, is measured before
    and after them.
    """
    config, dtype, rate = model.trunk.config, getattr(torch, load["dtype"]), load.get("rate")
    before = rate or product_rate(config, dtype)
    learner = WatchedLearner(load, new_learner(load, model))
    seconds, metrics = timed(lambda batch: learner.step(Work(objective, batch)), batches)
    tokens = [sum(map(len, _sequences(batch))) for batch in batches[1:]]
    return {
        **result(seconds, tokens),
        "losses": [step["loss"] for step in metrics],
        **learner.used(rate or max(before, product_rate(config, dtype))),
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
    policy = new_policy(load)
    critic = ValueModel(load_causal(load["model"], precision=load["dtype"]))
    stop = (load["stop"],)
    params = SamplingParams(max_tokens=ANSWER_TOKENS, min_tokens=ANSWER_TOKENS, stop_tokens=stop)
    loop = OnlineLoop(
        learner=new_learner(load, policy),
        reference=policy.reference(),
        sampler=Sampler(engine=TorchEngine(policy.model), params=params, group_size=GROUP),
        reward=RewardModelSource(new_reward_model(load)),
        values=Critic(new_learner(load, critic)),
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


def new_policy(load: Workload) -> CausalPolicy:
    """With all weights, or with adapters in float32 whose products are of the type of the weights
    below them, as the peer's are.
    """
    model = load_causal(load["model"], precision=load["dtype"])
    if not load.get("lora"):
        return CausalPolicy(model)
    adapted = add_lora(model, LoraSettings(rank=RANK, alpha=ALPHA))
    return CausalPolicy(adapted, compute=getattr(torch, load["dtype"]))


def new_learner(load: Workload, model: Any) -> Learner:
    return Learner(model, make_optimizer(model, lr=LR), token_budget=budget(load))


def budget(load: Workload) -> int:
    """Tokens of a micro-batch."""
    here, at_once = token_budget_here(), load.get("at_once")
    return here if at_once is None else min(here, at_once * MAX_LENGTH)


class WatchedLearner:
    """A learner, the seconds of each of its steps, and the batches that they were taken on."""

    def __init__(self, load: Workload, learner: Learner) -> None:
        self.load, self.learner = load, learner
        self.seconds, self.batches = list[float](), list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)

    def step(self, *work: Work) -> dict[str, float]:
        start = now()
        metrics = self.learner.step(*work)
        self.seconds.append(now() - start)
        self.batches.append(work[0].batch)
        return metrics

    def used(self, rate: float | None) -> dict[str, Any]:
        """Seconds and operations of all steps but the first, if the rate of products is known."""
        if rate is None:
            return {}
        learner = self.learner
        operations = [
            training_operations(self.load, learner.model, batch, learner.token_budget)
            for batch in self.batches[1:]
        ]
        return {"learning": self.seconds[1:], "operations": operations, "product_rate": rate}


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
