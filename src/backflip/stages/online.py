"""Online learning: a policy answers, is rewarded, and learns from that; PPO, GRPO and their kin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import model_validator
from torch import nn

from backflip.algorithms.base import OnlineAlgorithm
from backflip.algorithms.discover import ONLINE
from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.ranges import Usual
from backflip.data.batches import PromptBatch
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Tokenized, tokenize_prompts
from backflip.data.records import Prompt
from backflip.data.stream import Batches
from backflip.errors import UserError
from backflip.functional.kl import LARGE_KL
from backflip.functional.statistics import mean_interval
from backflip.generate.engine import SamplingParams
from backflip.models.divergence import exact_kl
from backflip.models.save import save_policy
from backflip.reward.shaping import Shaping
from backflip.stages.base import RunContext, Stage
from backflip.stages.choices import NAMES, name_in, one_of
from backflip.stages.context import StageContext, basics
from backflip.stages.prompt_eval import Exam, Questions, Sitting, before_and_after
from backflip.stages.rewards import Model, Rewards, reward_in
from backflip.stages.roles import Roles
from backflip.stages.settings import Count, OptimizerSettings, Positive, Pretraining, long_forms
from backflip.stages.values import CriticValues, Values, values_in
from backflip.stages.watcher import Watcher
from backflip.training.driver import Best, Outcome, load_best
from backflip.training.online import OnlineLoop
from backflip.training.run_folder import RunFolder

__all__ = ["OnlineRecipe"]

if TYPE_CHECKING:
    OnlineAlgorithms: TypeAlias = OnlineAlgorithm
else:
    OnlineAlgorithms = one_of(ONLINE)

NOTHING_BETTER = "no checkpoint beat the start by held-out reward; the last weights are kept"


class OnlineRecipe(Stage):
    """Online learning: raise the reward of the policy's own answers under a KL leash."""

    RATES: ClassVar[tuple[float, float]] = (5e-5, 3e-6)

    USUAL: ClassVar[tuple[Usual, ...]] = (
        Usual(1e-7, 1e-5, "1e-6 to 3e-6 for all weights", path="optimizer.lr", adapted=False),
        Usual(5e-6, 3e-4, "1e-5 to 1e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(0.7, 1.0, "0.7 to 1", path="sampling.temperature"),
        Usual(
            -math.inf,
            0.0,
            "−1 (Stiennon et al., 2020); above 0, rambling pays",
            path="shaping.missing_eos",
        ),
        Usual(0.0, math.inf, "0; below, length is paid for", path="shaping.length_penalty"),
        Usual(
            1.0, LARGE_KL, f"beyond {LARGE_KL:g} nats replies are seldom English", path="kl_stop"
        ),
    )
    STREAMS: ClassVar[bool] = False
    NEEDS_HELD_OUT: ClassVar[bool] = True

    ALIASES: ClassVar[Mapping[str, Any]] = {
        "reward_model": {},
        "critic": {"enum": ["separate", "shared"], "type": "string", "default": "separate"},
        "critic_init": {"enum": ["policy", "reward_model"], "type": "string", "default": "policy"},
        "critic_optimizer": OptimizerSettings,
    }
    """Settings by the names that they had while PPO was the only online stage."""

    stage: Literal["online", "ppo"] = "online"
    """Which recipe this is; runs that began as ppo keep that name."""
    reward: Rewards = Model()
    """Who judges answers: a reward model, an ensemble, a function, a verifier, a judge, a mix."""
    algorithm: OnlineAlgorithms = PPO()
    """How the policy learns from its rewarded answers."""
    values: Values = CriticValues()
    """Who expects scores: critic, shared (a head of the policy), monte_carlo, or none; by default
    what the algorithm needs."""
    prompts_per_step: Count = 8
    """Prompts in one round of sampling."""
    answers_per_prompt: Count = 2
    """Answers to each of them."""
    minibatches: Count = 1
    """Optimiser steps in one pass over a round's answers."""
    sampling: SamplingParams = SamplingParams(max_tokens=48)
    """How answers are drawn."""
    max_rows: Count = 64
    """Answers drawn side by side: more is faster and takes more memory."""
    shaping: Shaping = Shaping()
    """What becomes of a score before it is a reward."""
    pretraining: Pretraining | None = None
    """InstructGPT's mix; null leaves it out."""
    kl_stop: Positive | None = LARGE_KL
    """KL from the reference, in nats an answer, at which the run stops; null never stops."""
    best: bool = True
    """Keep the weights with the highest held-out reward; the last ones if none beat the start."""
    validation_prompts: Count = 32
    """Held-out prompts answered at each validation."""

    @model_validator(mode="before")
    @classmethod
    def _roles(cls, raw: Any) -> Any:
        """Old names, short forms, and what the algorithm asks for where nothing is said."""
        if not isinstance(raw, Mapping):
            return raw
        raw = renamed(raw)
        raw["reward"] = reward_in(raw.get("reward", {}))
        algorithm = ONLINE.get(name_in(long_forms(raw).get("algorithm", "ppo")))
        adapted = raw.get("lora", True) not in (None, False, "none", "None")
        needed = algorithm is not None and algorithm.needs_values
        raw["values"] = values_in(raw.get("values"), needed, cls.RATES, adapted)
        return raw

    @property
    def name(self) -> str:
        return NAMES[type(self.algorithm)]

    @property
    def method(self) -> str:
        judged = "a reward model" if self.reward.scorers() else f"a {NAMES[type(self.reward)]}"
        return f"{type(self.algorithm).title} against {judged}, under a KL leash"

    # ---- rows

    @property
    def record(self) -> type[Prompt]:
        return Prompt

    @property
    def rows_per_step(self) -> int:
        return self.prompts_per_step

    @property
    def answers_per_row(self) -> int:
        return self.answers_per_prompt

    def tokenize(self, records: Sequence[Prompt], template: ChatTemplate) -> Tokenized[Any]:
        return tokenize_prompts(records, template, fit=self.fit)

    def per_epoch(self, rows: int) -> int:
        return max(rows // self.prompts_per_step, 1)

    # ---- checks

    def contradictions(self, prefix: str, *, alone: bool) -> Iterator[str]:
        if alone and isinstance(self.reward, Model) and self.reward.model is None:
            yield (
                f"{self.name} needs a reward model: reward_model=FOLDER of a run of `backflip "
                "train reward_model`, or of any sequence classifier; or a function, "
                "reward=my_rewards.py:NAME."
            )
        yield from self.reward.faults(f"{prefix}reward")
        yield from self.values.faults(prefix, self.algorithm)
        yield from self.algorithm.faults(self.answers_per_prompt, f"{prefix}answers_per_prompt")
        if self.sampling.filters:
            yield (
                f"{prefix}sampling uses {', '.join(self.sampling.filters)}: answers would be drawn "
                "from another distribution than the one that learns. Leave it out."
            )
        if self.minibatches > self.prompts_per_step:
            yield (
                f"{prefix}minibatches is {self.minibatches}, but a round has only "
                f"{self.prompts_per_step} prompts to share out. Lower it."
            )

    def remarks(self, prefix: str) -> Iterator[str]:
        answers = self.prompts_per_step * self.answers_per_prompt // self.minibatches
        if answers < 8 and getattr(self.algorithm, "whiten_advantages", False):
            yield (
                f"{prefix}prompts_per_step × answers_per_prompt / minibatches is {answers}: "
                "whitening over fewer than 8 answers is mostly noise."
            )
        if self.shaping.missing_eos is None:
            yield (
                f"{prefix}shaping.missing_eos is null: an answer that was cut off is judged as if "
                "it were whole, and the policy may learn never to stop."
            )
        if self.kl_stop is None:
            yield (
                f"{prefix}kl_stop is null: nothing ends the run when replies are no longer "
                "language."
            )

    def sources(self) -> dict[str, str | None]:
        mixed = {} if self.pretraining is None else {"pretraining.source": self.pretraining.source}
        return super().sources() | mixed

    def models(self) -> dict[str, str | None]:
        judges = enumerate(self.reward.scorers(), start=1)
        return super().models() | {f"reward{n if n > 1 else ''}": name for n, name in judges}

    # ---- forecasts

    def rows_validated(self, held_out: int) -> int:
        return min(held_out, self.validation_prompts)

    def tokens_per_row(self, data: Any) -> float:
        """As if no answer ended by itself."""
        answers = self.answers_per_prompt * self.sampling.max_tokens
        return float(data.lengths.sum() + answers * len(data)) / len(data)

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        return [causal(), *self.values.learning(causal)]

    # ---- training

    def train(self, context: RunContext, watcher: Watcher) -> dict[str, Any]:
        """Optimise, keep the best by held-out reward, write ``model/``, return before and after."""
        run, ground = context.run, StageContext.of(self, watcher.say)
        prompts, held, records = _prompts(ground, self)
        cast = Roles.of(ground, records, context.functions.get("reward"))
        batches = Batches(
            prompts,
            size=self.prompts_per_step,
            seed=self.seed,
            epochs=self.passes,
            drop_last=len(prompts) >= self.prompts_per_step,
        )
        total = self.total(batches.per_epoch)
        watcher.announce(self, cast.policy, rows=len(prompts), steps=total)
        loop = cast.loop(total, run)
        exam = Exam(held, cast.sampler, cast.reward, cast.reference, ground, watcher.log)
        before = exam.sit(0, write=run.latest_step() is None)
        best = _best(before) if self.best else None
        outcome = ground.drive(
            loop,
            batches,
            run=run,
            watcher=watcher,
            modules=cast.modules(loop),
            assess=exam.metrics,
            best=best,
        )
        now, summary = self._kept(cast, loop, run, outcome, best, watcher)
        after = exam.at(now)
        dtype = ground.saved_dtype(cast.policy.model)
        save_policy(cast.policy, ground.tokenizer, run.path, dtype=dtype)
        told = before_and_after(before, after)
        exact = exact_kl(cast.policy, cast.reference, after.answers.rollouts, self.token_budget)
        told |= mean_interval(exact, within=(0.0, math.inf)).named("kl_exact_after")
        return basics(outcome, cast.policy, len(prompts)) | summary | told

    def _kept(
        self,
        cast: Roles,
        loop: OnlineLoop,
        run: RunFolder,
        outcome: Outcome,
        best: Best | None,
        watcher: Watcher,
    ) -> tuple[int, dict[str, Any]]:
        """(step whose weights the policy has from now on, what the summary says of it)."""
        now, summary = outcome.steps, dict[str, Any](stopped=outcome.stopped)
        if best is not None:
            summary |= {"best_step": outcome.best_step or 0, "best_by": best.metric}
            now = load_best(run, cast.modules(loop)) or now
            loop.sampler.sync(cast.policy)
            if outcome.best_step is None:
                watcher.say(NOTHING_BETTER)
        return now, summary | {"missing_eos": self.shaping.missing_eos}


def _best(before: Sitting) -> Best:
    """The checkpoint to keep: by the head that was not optimised against, where there is one."""
    measured = before.metrics()
    name = "val_reward_heldout" if "val_reward_heldout" in measured else "val_reward"
    return Best(name, start=measured[name])


def renamed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the old names of PPO's roles written as ``reward`` and ``values``."""
    out = {key: value for key, value in raw.items() if key not in OnlineRecipe.ALIASES}
    if raw.get("reward_model") is not None:
        out["reward"] = {"name": "model", "model": raw["reward_model"]}
    critic = {"separate": "critic", "shared": "shared"}.get(str(raw.get("critic")))
    said = {"init": raw.get("critic_init"), "optimizer": raw.get("critic_optimizer")}
    said = {key: value for key, value in said.items() if value is not None}
    if "critic" in raw and critic is None:
        raise ValueError(f"critic is {raw['critic']!r}; it is separate or shared")
    if critic or said:
        values = out.get("values")
        values = {"name": values} if isinstance(values, str) else dict(values or {})
        if "optimizer" in said:
            said["optimizer"] = {**(values.get("optimizer") or {}), **said["optimizer"]}
        out["values"] = values | ({"name": critic} if critic else {}) | said
    return out


def _prompts(
    ground: StageContext, recipe: OnlineRecipe
) -> tuple[PromptBatch, Questions, tuple[Prompt, ...]]:
    """(prompts to learn on, held-out prompts, the records of both by ``Rollouts.row``)."""
    train, held = ground.records(Prompt)
    if not held:
        raise UserError(
            "held-out prompts are needed to judge the policy by: set data.held_out above 0"
        )
    made = recipe.tokenize(train, ground.template)
    batch = PromptBatch(ground.told(made), torch.tensor(made.kept))
    questions = Questions.of(ground, held, recipe.validation_prompts, first_row=len(train))
    return batch, questions, (*train, *held)
