"""Rules of the online stage: roles that do not go together, settings that end badly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backflip.algorithms.ranges import Usual, declared
from backflip.reward.verifiers.base import Verifier
from backflip.stages.choices import NAMES
from backflip.stages.corrections import correction_faults
from backflip.stages.engines import Server
from backflip.stages.environments import REWARDLESS, asks_environment, longest
from backflip.stages.rewards.context import is_python
from backflip.stages.rewards.environment import Environment
from backflip.stages.rewards.functions import Function
from backflip.stages.rewards.judge import Judge
from backflip.stages.rewards.models import Model
from backflip.stages.rewards.teacher import TeacherModel
from backflip.stages.values import (
    CriticValues,
    GreedyValues,
    MonteCarloValues,
    NoValues,
    SharedValues,
)

__all__ = ["online_faults", "online_remarks"]


def online_faults(recipe: Any, prefix: str, *, alone: bool) -> Iterator[str]:
    """Sentences on settings of an online stage that do not go together."""
    yield from _faults_of_episodes(recipe, prefix)
    unjudged = isinstance(recipe.reward, Model) and recipe.reward.model is None
    if alone and unjudged and recipe.environment is None:
        yield (
            f"{recipe.name} needs a reward model: reward_model=FOLDER of a run of `backflip "
            "train reward_model`, or of any sequence classifier; or a function, "
            "reward=my_rewards.py:NAME."
        )
    if not alone and recipe.reward != Model():
        yield (
            f"{prefix}reward is set, but the chain rewards by the reward model of the stage before "
            f"it. Leave it out, or train {recipe.name} by itself after the others."
        )
    yield from recipe.reward.faults(f"{prefix}reward")
    yield from _faults_of_gold(recipe, prefix)
    yield from recipe.on_alarm.faults(recipe, f"{prefix}on_alarm")
    yield from recipe.engine.faults(f"{prefix}engine", adapted=recipe.lora is not None)
    yield from recipe.values.faults(prefix, recipe.algorithm)
    yield from recipe.curriculum.faults(f"{prefix}curriculum", recipe.answers_per_prompt)
    yield from correction_faults(recipe, prefix)
    yield from _faults_of_ahead(recipe, prefix)
    yield from _faults_of_cluster(recipe, prefix)
    yield from _faults_of_flight(recipe, prefix)
    yield from recipe.algorithm.faults(recipe.answers_per_prompt, f"{prefix}answers_per_prompt")
    yield from update_faults(recipe, prefix)
    yield from _faults_of_signs(recipe, prefix)
    if recipe.sampling.filters:
        yield (
            f"{prefix}sampling uses {', '.join(recipe.sampling.filters)}: answers would be drawn "
            "from another distribution than the one that learns. Leave it out."
        )
    buffer, limit = recipe.shaping.overlong_buffer, longest(recipe)
    if buffer is not None and not 1 <= buffer <= limit:
        yield (
            f"{prefix}shaping.overlong_buffer is {buffer}; it is the last tokens of an answer's "
            f"{limit}. Set {prefix}shaping.overlong_buffer="
            f"{max(limit // 5, 1)}."
        )


def update_faults(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on optimiser steps that there are none of, or that answers do not allow."""
    alone = getattr(recipe.algorithm, "value_steps", 0)
    if alone >= recipe.steps:
        yield (
            f"{prefix}algorithm.value_steps is {alone} of {prefix}steps={recipe.steps}: only the "
            f"critic would learn, the policy never. Set {prefix}algorithm.value_steps="
            f"{recipe.steps // 4}, or more steps."
        )
    if recipe.minibatches > recipe.prompts_per_step:
        yield (
            f"{prefix}minibatches is {recipe.minibatches}, but a round has only "
            f"{recipe.prompts_per_step} prompts to share out. Lower it."
        )
    updates = recipe.algorithm.epochs * recipe.minibatches
    if recipe.algorithm.on_policy and updates > 1:
        yield (
            f"{prefix}algorithm.epochs × {prefix}minibatches is {updates}: "
            f"{type(recipe.algorithm).title} has no ratio, so that only the first optimiser step "
            "on a round's answers would be right. Set both to 1."
        )
    if recipe.algorithm.of_tokens and isinstance(
        recipe.reward, Model | Function | Verifier | Judge
    ):
        yield (
            f"{prefix}reward scores whole answers, and {type(recipe.algorithm).title} learns from "
            f"a reward of each token. Set {prefix}reward={{name: teacher, model: MODEL}}."
        )
    if recipe.curriculum.temperature_end is not None and (
        isinstance(recipe.values, MonteCarloValues) or isinstance(recipe.reward, TeacherModel)
    ):
        yield (
            f"{prefix}curriculum.temperature_end moves the temperature of the policy, and neither "
            "continuations of monte_carlo nor a teacher follow it. Leave it out."
        )


def _faults_of_ahead(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on answers drawn ahead, where the learner needs the sampler meanwhile."""
    if recipe.ahead and isinstance(recipe.values, MonteCarloValues | GreedyValues):
        yield (
            f"{prefix}ahead is {recipe.ahead}, and {prefix}values is {NAMES[type(recipe.values)]}, "
            "which draws answers of the policy that learns while the sampler is busy with the next "
            f"step. Set {prefix}ahead=0."
        )
    if recipe.ahead and isinstance(recipe.reward, TeacherModel):
        yield (
            f"{prefix}ahead is {recipe.ahead}, and a teacher's reward is its log-probability less "
            f"that of the policy which learns, not of an older one. Set {prefix}ahead=0."
        )


def _faults_of_gold(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on a gold that cannot be watched."""
    gold, where = recipe.gold, f"{prefix}gold"
    if gold is None:
        return
    yield from gold.faults(where)
    if gold == recipe.reward:
        yield f"{where} is the same as {prefix}reward, and would show nothing. Leave it out."
    terms = getattr(gold, "terms", (gold,))
    if gold.uses_policy or any(isinstance(term, TeacherModel) for term in terms):
        yield f"{where} asks the policy itself, which is what it is to watch. Name another judge."
    if any(isinstance(term, Environment) for term in terms):
        yield f"{where} is that of the environment, which pays it already. Name another judge."
    if any(isinstance(term, Function) and is_python(term.path) for term in terms):
        yield f"{where} is a function from Python; put it in a file: {where}=my_gold.py:NAME."


def _faults_of_flight(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on weights in the middle of answers, where nobody could take them, and on sleep
    where somebody answers.
    """
    if getattr(recipe.engine, "sleeps", False) and (recipe.ahead or recipe.cluster):
        yield (
            f"{prefix}engine.sleeps is true, but with {prefix}ahead or {prefix}cluster answers are "
            "written beside the learner. Set it to false."
        )
    if not getattr(recipe.engine, "in_flight", False):
        return
    where = f"{prefix}engine.in_flight is true, but"
    if not recipe.ahead:
        yield (
            f"{where} {prefix}ahead is 0: nothing is learnt while answers are written. Set "
            f"{prefix}ahead=1."
        )
    if recipe.lora is not None:
        yield (
            f"{where} with LoRA an answer keeps the adapters that it was begun with. Set "
            f"{prefix}engine.in_flight=false, or {prefix}lora=null."
        )
    if recipe.environment is not None:
        yield f"{where} turns of an episode do not say whose weights they are. Set it to false."
    if recipe.cluster is not None and recipe.cluster.samplers:
        yield (
            f"{where} samplers of a cluster take weights between answers. Set "
            f"{prefix}cluster.samplers=0, or {prefix}engine.in_flight=false."
        )


def _faults_of_reference(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on a reference that is to live elsewhere."""
    where, cluster = f"{prefix}cluster", recipe.cluster
    if cluster.reference and recipe.lora is not None:
        yield (
            f"{where}.reference is true, but with LoRA the reference is the policy with its "
            f"adapters off, and takes no memory. Set {where}.reference=false."
        )
    if cluster.reference and recipe.reference_device == "cpu":
        yield f"{where}.reference and {prefix}reference_device=cpu are both set. Leave one out."


def _faults_of_cluster(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on roles that cannot live elsewhere, or that nobody plays."""
    where, cluster = f"{prefix}cluster", recipe.cluster
    if cluster is None:
        return
    yield from _faults_of_reference(recipe, prefix)
    if not cluster.members:
        yield (
            f"{where} is set, and no role lives there. Set {where}.samplers=2, or {where}=null; "
            "backflip ray --ranks 2 train … shares the learning itself out."
        )
    if cluster.samplers and isinstance(recipe.engine, Server):
        yield (
            f"{where}.samplers is {cluster.samplers}, and {prefix}engine=openai is one server for "
            f"all of them. Set {where}.samplers=0, or {prefix}engine=torch."
        )
    if cluster.samplers > 1 and getattr(recipe.engine, "folder", None):
        yield (
            f"{prefix}engine.folder is set, and {where}.samplers={cluster.samplers} would write "
            f"over each other there. Leave {prefix}engine.folder out."
        )
    if cluster.critic and not isinstance(recipe.values, CriticValues):
        yield (
            f"{where}.critic is true, but {prefix}values is {NAMES[type(recipe.values)]}: there is "
            f"no critic. Set {where}.critic=false."
        )
    if cluster.reward and (recipe.reward.uses_policy or recipe.environment is not None):
        yield (
            f"{where}.reward is true, but {prefix}reward asks the policy or its environment, which "
            f"live with the learner. Set {where}.reward=false."
        )
    elif cluster.reward and any(
        isinstance(term, Function) and is_python(term.path)
        for term in getattr(recipe.reward, "terms", (recipe.reward,))
    ):
        yield (
            f"{where}.reward is true, but {prefix}reward is a function handed over in Python, "
            "which cannot be sent. Put it in a file: reward=my_rewards.py:NAME."
        )


def _faults_of_signs(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on negative scores, where the algorithm takes none."""
    if getattr(recipe.algorithm, "from_zero", False):
        for name, value in _below_zero(recipe):
            yield (
                f"{prefix}{name} is {value}, so that scores may be negative, and "
                f"{type(recipe.algorithm).title} divides by the mean score of a prompt's answers. "
                "Score from 0 up, and set shaping.missing_eos=0."
            )


def _below_zero(recipe: Any) -> Iterator[tuple[str, Any]]:
    """Settings by which a score, or what is left of it, may be negative."""
    shaping, reward = recipe.shaping, recipe.reward
    if (shaping.missing_eos or 0) < 0:
        yield "shaping.missing_eos", f"{shaping.missing_eos:g}"
    if shaping.length_penalty > 0:
        yield "shaping.length_penalty", f"{shaping.length_penalty:g}"
    if shaping.overlong_buffer is not None:
        yield "shaping.overlong_buffer", shaping.overlong_buffer
    if getattr(reward, "whiten", False):
        yield "reward.whiten", "true"
    weights = getattr(reward, "weights", (1.0,))
    if min(weights) < 0:
        yield "reward.weights", list(weights)
    for number, term in enumerate(terms := getattr(reward, "terms", (reward,))):
        where = "reward" if len(terms) == 1 else f"reward.terms.{number}"
        for name in ("correct", "incorrect", "unparsable"):
            if isinstance(value := getattr(term, name, None), int | float) and value < 0:
                yield f"{where}.{name}", f"{value:g}"


def _faults_of_episodes(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on an environment that cannot be, or that nobody could learn in."""
    environment = recipe.environment
    if environment is None:
        if asks_environment(recipe.reward):
            yield (
                f"{prefix}reward asks for that of the environment, and there is none. Set "
                f"{prefix}environment=calculator, or my_game.py:NAME."
            )
        return
    found = list(environment.faults(f"{prefix}environment"))
    yield from found
    if not found and recipe.reward == Model() and environment.rewarding() is False:
        yield REWARDLESS.format(prefix=prefix)
    if not isinstance(recipe.values, NoValues | CriticValues | SharedValues):
        yield (
            f"{prefix}values is {NAMES[type(recipe.values)]}, which draws further answers, and in "
            f"these no environment would answer. Set {prefix}values=critic, or an algorithm that "
            "needs none."
        )


def online_remarks(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on settings of an online stage that are allowed, but end badly."""
    for name, value, usual in declared(recipe.reward, Usual):
        if value is not None and not usual.low <= value <= usual.high:
            yield f"{prefix}reward.{name} is {value:g}; the literature has {usual.source}."
    answers = recipe.prompts_per_step * recipe.answers_per_prompt // recipe.minibatches
    if answers < 8 and getattr(recipe.algorithm, "whiten_advantages", False):
        yield (
            f"{prefix}prompts_per_step × answers_per_prompt / minibatches is {answers}: "
            "whitening over fewer than 8 answers is mostly noise."
        )
    shaping, taught = recipe.shaping, isinstance(recipe.reward, TeacherModel)  # to its very end
    if shaping.missing_eos is None and shaping.overlong_buffer is None and not taught:
        yield (
            f"{prefix}shaping.missing_eos is null: an answer that was cut off is judged as if "
            "it were whole, and the policy may learn never to stop."
        )
    sure = isinstance(recipe.reward, Verifier | TeacherModel)  # which are not fooled
    buffer, limit = shaping.overlong_buffer, longest(recipe)
    if buffer is not None and buffer > limit // 2:
        yield (
            f"{prefix}shaping.overlong_buffer is {buffer} of the {limit} tokens that an answer may "
            f"have: answers pay from their token {limit - buffer + 1} on, and the policy may learn "
            "to say next to nothing. DAPO's is a fifth of the limit."
        )
    if recipe.kl_stop is None and not sure:
        yield (
            f"{prefix}kl_stop is null: nothing ends the run when replies are no longer language."
        )
