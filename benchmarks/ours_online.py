"""Backflip's side of learning from rewards: GRPO, RLOO, generation alone, VinePPO's values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from ours import WatchedLearner, new_learner, new_policy, result
from timing import KL_COEF, cheap_reward, timed
from workloads import ANSWER_TOKENS, GROUP, WIDE_GROUP, Prompt, Workload

from backflip.data.batches import Rollouts
from backflip.generate.engine import Completion, SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.load import load_causal, load_tokenizer
from backflip.reward.protocol import Judgement
from backflip.training.drawn_values import MonteCarlo
from backflip.training.online import OnlineLoop
from backflip.training.values import NoValues

WHOLE = SamplingParams(max_tokens=ANSWER_TOKENS)
"""No stop token: every answer has the same length."""
SAMPLES = 9
"""VinePPO's K."""


def judged(rollouts: Rollouts) -> Judgement:
    answers = rollouts.steps.answer.rows()
    return Judgement(torch.tensor([cheap_reward(answer.tolist()) for answer in answers]))


def grpo(load: Workload) -> dict[str, Any]:
    from backflip.algorithms.online.grpo import GRPO

    return steps(load, GRPO(kl_coef=KL_COEF))


def rloo(load: Workload) -> dict[str, Any]:
    from backflip.algorithms.online.rloo import RLOO

    return steps(load, RLOO(kl_coef=KL_COEF))


def steps(load: Workload, algorithm: Any) -> dict[str, Any]:
    """Sample, judge, learn once; policy and reference. All answers are written side by side."""
    policy, rows = new_policy(load), GROUP * len(load["prompts"][0])
    learner: Any = WatchedLearner(load, new_learner(load, policy))
    engine = TorchEngine(policy.model, max_rows=rows)
    loop = OnlineLoop(
        learner=learner,
        reference=policy.reference(),
        sampler=Sampler(engine=engine, params=WHOLE, group_size=GROUP),
        reward=judged,
        values=NoValues(),
        algorithm=replace(algorithm, epochs=1),
    )

    numbers = itertools.count(1)

    def step(prompts: list[Prompt]) -> int:
        metrics = loop.step(next(numbers), [prompt["tokens"] for prompt in prompts])
        assert loop.last is not None
        assert metrics["grad_norm"] > 0, "nothing was learnt"
        return int(loop.last.experience.scored.rollouts.mask.sum())

    seconds, tokens = timed(step, load["prompts"])
    return result(seconds, tokens[1:]) | learner.used(load.get("rate"))


def generation(load: Workload) -> dict[str, Any]:
    engine = TorchEngine(load_causal(load["model"], precision=load["dtype"]))

    def step(prompts: list[Prompt]) -> int:
        rows = [prompt["tokens"] for prompt in prompts]
        return sum(len(a.tokens) for a in engine.generate(rows, WHOLE, group=WIDE_GROUP, seed=0))

    seconds, tokens = timed(step, load["wide"])
    return result(seconds, tokens[1:])


class Alone:
    """An engine that is given every answer's prompt by itself: nothing is shared."""

    exact = True

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        group: int = 1,
        seed: int = 0,
        progress: Any = None,
    ) -> list[Completion]:
        each = [prompt for prompt in prompts for _ in range(group)]
        drawn = self.engine.generate(each, params, seed=seed, progress=progress)
        return [
            replace(one, prompt_index=number // group, answer_index=number % group)
            for number, one in enumerate(drawn)
        ]

    def sync(self, model: Any = None) -> None:
        self.engine.sync(model)


def vine(load: Workload) -> dict[str, Any]:
    """Values of every sentence of 16 answers, as the mean of 9 continuations each."""
    return values(load, lambda engine: engine)


def vine_alone(load: Workload) -> dict[str, Any]:
    """The same continuations, every one of them with its prompt and prefix read anew."""
    return values(load, Alone)


def values(load: Workload, engine_of: Any) -> dict[str, Any]:
    engine = TorchEngine(load_causal(load["model"], precision=load["dtype"]))
    tokenizer: Any = load_tokenizer(load["model"])
    sampler = Sampler(engine=engine, params=WHOLE, group_size=GROUP)
    batches = [
        sampler([prompt["tokens"] for prompt in prompts], seed=number)
        for number, prompts in enumerate(load["prompts"])
    ]
    source = MonteCarlo(
        engine_of(engine), WHOLE, judged, SAMPLES, at="sentences", decode=tokenizer.decode
    )

    def step(rollouts: Rollouts) -> int:
        source(None, rollouts, judged(rollouts).scores)
        return SAMPLES * int(source.seen["continued_states"])

    seconds, continued = timed(step, batches)
    return result(seconds, continued[1:])


WORKS = {
    "grpo": grpo,
    "rloo": rloo,
    "generation": generation,
    "vine": vine,
    "vine_alone": vine_alone,
}
