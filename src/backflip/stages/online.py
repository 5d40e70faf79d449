"""Online learning: a policy answers, is rewarded, and learns from that; PPO, GRPO and their kin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator
from torch import nn

from backflip.algorithms.base import OnlineAlgorithm
from backflip.algorithms.discover import ONLINE
from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.ranges import Usual
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Tokenized, tokenize_prompts
from backflip.data.curriculum import Curriculum
from backflip.data.records import Prompt
from backflip.functional.kl import LARGE_KL
from backflip.generate.engine import SamplingParams
from backflip.reward.shaping import Shaping
from backflip.stages.actions import OnAlarm
from backflip.stages.base import RunContext, Stage
from backflip.stages.choices import NAMES, name_in, one_of
from backflip.stages.corrections import Corrections
from backflip.stages.crew import ClusterSettings
from backflip.stages.engines import Embedded, Engines, engine_in
from backflip.stages.environments import Environments, environment_in, longest, longest_of, opposite
from backflip.stages.online_rules import online_faults, online_remarks
from backflip.stages.online_training import train_online
from backflip.stages.online_workload import online_work
from backflip.stages.plans import Lengths, Plan, beginning
from backflip.stages.rewards.kinds import Rewards, reward_in
from backflip.stages.rewards.models import Model
from backflip.stages.settings import Count, OptimizerSettings, Positive, Pretraining, long_forms
from backflip.stages.values import CriticValues, Values, values_in
from backflip.stages.watcher import Watcher
from backflip.stages.workload import Workload

__all__ = ["OnlineRecipe"]

if TYPE_CHECKING:
    OnlineAlgorithms: TypeAlias = OnlineAlgorithm
else:
    OnlineAlgorithms = one_of(ONLINE)


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
    gold: Rewards | None = None
    """Whom to watch beside the reward: a source like it, of which nothing learns; null: none."""
    algorithm: OnlineAlgorithms = PPO()
    """How the policy learns from its rewarded answers."""
    environment: Environments | None = None
    """Whom the policy talks to in several turns: calculator, python, guessing_game, FILE.py:CLASS;
    null: one answer is all."""
    values: Values = CriticValues()
    """Who expects scores: critic, shared (a head of the policy), monte_carlo, greedy, or none; by
    default what the algorithm needs."""
    prompts_per_step: Count = 8
    """Prompts in one round of sampling."""
    answers_per_prompt: Count = 2
    """Answers to each of them."""
    ahead: Annotated[int, Field(ge=0)] = 0
    """Steps that answers are drawn ahead, while others are learnt from; 0: none."""
    minibatches: Count = 1
    """Optimiser steps in one pass over a round's answers."""
    sampling: SamplingParams = SamplingParams(max_tokens=48)
    """How answers are drawn."""
    engine: Engines = Embedded()
    """Who draws them: torch in this process, or openai, a server."""
    correction: Corrections | None = None
    """Weights of answers that another drew than the learner: none, tis, icepop, sequence_mask,
    geometric_mask, tv_gate, kl_gate. Null: none where numbers are the learner's own, else tis."""
    max_rows: Count = 64
    """Answers drawn side by side: more is faster and takes more memory."""
    shaping: Shaping = Shaping()
    """What becomes of a score before it is a reward."""
    reference_device: Literal["same", "cpu"] = "same"
    """Where a reference with weights of its own lies; cpu: on the device only while it reads."""
    curriculum: Curriculum = Curriculum()
    """Which prompts are asked, when they are replaced, and when the run has spent enough."""
    pretraining: Pretraining | None = None
    """InstructGPT's mix; null leaves it out."""
    kl_stop: Positive | None = LARGE_KL
    """KL from the reference, in nats an answer, at which the run stops; null never stops."""
    on_alarm: OnAlarm = OnAlarm()
    """What follows an alarm, beside that it is said."""
    cluster: ClusterSettings | None = None
    """Roles that live in processes of their own, on a Ray cluster; null: all live here."""
    best: bool = True
    """Keep the weights with the highest held-out reward; the last ones if none beat the start."""
    validation_prompts: Count = 32
    """Held-out prompts answered at each validation."""
    validation_answers: Count = 1
    """Answers to each of them, sampled; of a verifier 2 or more tell pass@k too, and maj@k."""

    @model_validator(mode="before")
    @classmethod
    def _roles(cls, raw: Any) -> Any:
        """Old names, short forms, and what the algorithm asks for where nothing is said."""
        return with_roles(raw, cls.RATES) if isinstance(raw, Mapping) else raw

    @property
    def name(self) -> str:
        return NAMES[type(self.algorithm)]

    @property
    def method(self) -> str:
        return f"{type(self.algorithm).title} against {opposite(self)}, under a KL leash"

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
        return online_faults(self, prefix, alone=alone)

    def remarks(self, prefix: str) -> Iterator[str]:
        return online_remarks(self, prefix)

    def sources(self) -> dict[str, str | None]:
        mixed = {} if self.pretraining is None else {"pretraining.source": self.pretraining.source}
        return super().sources() | mixed

    def models(self) -> dict[str, str | None]:
        return super().models() | scorers_of(self)

    def rows_validated(self, held_out: int) -> int:
        return min(held_out, self.validation_prompts)

    def lengths(self, data: Any) -> Lengths:
        """As if no answer ended by itself."""
        count = self.answers_per_prompt
        prompt = float(data.lengths.sum()) / len(data)
        return Lengths(prompt, count * longest(self), count, beginning(data))

    def workload(self, plan: Plan) -> Workload:
        return online_work(self, plan)

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        return [causal(), *self.values.learning(causal)]

    def train(self, given: RunContext, watcher: Watcher) -> dict[str, Any]:
        """Optimise, keep the best by held-out reward, write ``model/``, return before and after."""
        return train_online(self, given, watcher)


def scorers_of(recipe: Any) -> dict[str, str]:
    """Reward models that judge or are watched: ``reward``, ``reward2``, ``gold`` …"""
    kinds = {"reward": recipe.reward, "gold": recipe.gold}
    return {
        f"{kind}{number if number > 1 else ''}": name
        for kind, source in kinds.items()
        for number, name in enumerate(() if source is None else source.scorers(), start=1)
    }


def renamed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the old names of PPO's roles written as ``reward`` and ``values``."""
    out = {key: value for key, value in raw.items() if key not in OnlineRecipe.ALIASES}
    if raw.get("reward_model") is not None:
        other = reward_in(raw.get("reward", {}))
        if isinstance(other, Mapping) and other.get("name") != "model":
            raise ValueError(
                f"reward_model={raw['reward_model']} and a reward of another kind "
                f"({other.get('name')}) are both given. Leave one of them out"
            )
        out["reward"] = {"name": "model", "model": raw["reward_model"]}
    critic = {"separate": "critic", "shared": "shared"}.get(str(raw.get("critic")))
    said: dict[str, Any] = {
        "init": raw.get("critic_init"),
        "optimizer": raw.get("critic_optimizer"),
    }
    said = {key: value for key, value in said.items() if value is not None}
    if "critic" in raw and critic is None:
        raise ValueError(f"critic is {raw['critic']!r}; it is separate or shared")
    if critic or said:
        values: Any = out.get("values")
        values = {"name": values} if isinstance(values, str) else dict(values or {})
        if "optimizer" in said:
            said["optimizer"] = {**(values.get("optimizer") or {}), **said["optimizer"]}
        out["values"] = values | ({"name": critic} if critic else {}) | said
    return out


def with_roles(raw: Mapping[str, Any], rates: tuple[float, float]) -> dict[str, Any]:
    """Settings with their reward and values written out."""
    out = renamed(raw)
    if "engine" in out:
        out["engine"] = engine_in(out["engine"])
    out["reward"] = reward_in(out.get("reward", {}))
    if out.get("gold") is not None:
        out["gold"] = reward_in(out["gold"])
    if out.get("environment") is not None:
        out["environment"] = environment_in(out["environment"])
    algorithm = ONLINE.get(name_in(long_forms(out).get("algorithm", "ppo")))
    adapted = out.get("lora", True) not in (None, False, "none", "None")
    default = "none" if algorithm is None else algorithm.values_from[0]
    out["values"] = values_in(out.get("values"), default, rates, adapted)
    return with_length(out, algorithm)


def with_length(out: dict[str, Any], algorithm: Any) -> dict[str, Any]:
    """The longest answer as ``algorithm.length``, where it divides by one and none is given."""
    said = out.get("algorithm")
    if not isinstance(said, Mapping) or said.get("reduction") != "constant":
        return out
    if said.get("length") or getattr(algorithm, "length", None):
        return out
    sampling = out.get("sampling") or {}
    given = sampling.get("max_tokens") if isinstance(sampling, Mapping) else sampling.max_tokens
    turn = given or OnlineRecipe.model_fields["sampling"].default.max_tokens
    return out | {"algorithm": {**said, "length": longest_of(out, turn)}}
