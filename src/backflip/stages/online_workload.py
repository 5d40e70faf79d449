"""Work of one step of online learning, counted on paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from backflip.models.load import REWARD_MODELS
from backflip.stages.choices import NAMES
from backflip.stages.forecast import counted_models
from backflip.stages.plans import Lengths, Plan
from backflip.stages.workload import Held, Kind, Reading, Workload, Writing, shape_of

__all__ = ["online_work"]


def online_work(recipe: Any, plan: Plan) -> Workload:
    """Answers drawn, judged, compared with the reference, valued, and learnt from.

    Raises UserError where there is no such model.
    """
    assert plan.lengths is not None, "prompts have known lengths, and answers a longest one"
    lengths, prompts = plan.lengths, recipe.prompts_per_step
    shape, counts = shape_of(recipe.model), counted_models(recipe)
    passes, updates = recipe.algorithm.epochs, recipe.algorithm.epochs * recipe.minibatches
    kind: Kind = "adapt" if recipe.lora else "learn"
    parts = lengths.count
    policy = Reading("policy", shape, kind, lengths, prompts * passes, parts, updates=updates)
    readings = [policy, Reading("reference", shape, "read", lengths, prompts, parts)]
    held = [Held("policy", *counts[0])]
    if not recipe.lora:
        held.append(Held("reference", shape.parameters))
    if recipe.ahead:  # what draws, and the weights of requests that wait their turn
        held.append(Held("acting copies", (recipe.ahead + 1) * held[0].learning))
    for counted in counts[1:]:
        critic = replace(policy, role="critic", heads=False)
        readings += [critic, replace(critic, kind="read", rows=prompts, updates=1)]
        held.append(Held("critic", *counted))
    for name in recipe.reward.scorers():
        judge = shape_of(name, of=REWARD_MODELS)
        readings.append(
            Reading("reward model", judge, "read", lengths, prompts, parts, heads=False)
        )
        held.append(Held("reward model", judge.parameters))
    return Workload(
        tuple(readings),
        tuple(held),
        _writing(recipe, shape, lengths),
        tuple(_left_out(recipe)),
    )


def _writing(recipe: Any, shape: Any, lengths: Lengths) -> Writing | None:
    if NAMES[type(recipe.engine)] != "torch":
        return None
    samplers = recipe.cluster.samplers if recipe.cluster else 0
    prompts, ahead = recipe.prompts_per_step, recipe.ahead > 0
    return Writing(shape, lengths, prompts, recipe.max_rows, samplers, ahead)


def _left_out(recipe: Any) -> Iterator[str]:
    """What costs time and is not reckoned."""
    if not recipe.reward.scorers():
        yield f"what the reward ({NAMES[type(recipe.reward)]}) takes is not reckoned"
    if NAMES[type(recipe.engine)] != "torch":
        yield "answers are written by a server: neither its time nor its devices are reckoned"
    if (values := NAMES[type(recipe.values)]) in ("monte_carlo", "greedy"):
        yield f"further answers that values={values} draws are not reckoned"
    if recipe.cluster and recipe.cluster.members > recipe.cluster.samplers:
        yield "reference, reward and critic are reckoned as if they lived with the learner"
    if recipe.ahead and not (recipe.cluster and recipe.cluster.samplers):
        yield "answers drawn ahead take their time beside learning, which is reckoned as after it"
    if recipe.environment is not None:
        yield "an episode is reckoned as one answer of its greatest length"
    if recipe.curriculum.rounds > 1:
        yield "prompts that a step asks again for want of signal are not reckoned"
    if recipe.pretraining is not None:
        yield "the pretraining mix is not reckoned"
