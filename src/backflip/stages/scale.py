"""The scale of a reward model's scores: mean 0 and std 1 on answers of the policy to be judged.

How many answers are written for it goes by what training took: a token that is written costs about
as much as one that is learnt from, and a prompt is only read. ``SHARE`` of the training's tokens
buys ``FEWEST`` to ``MOST`` answers; ``scale_answers`` sets their number. All of it is counted in
tokens, never in seconds, so that the same recipe gives the same scale on any machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import stdtrit

from backflip.data.batches import ComparisonBatch, TokenSteps
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.heads import RewardModel
from backflip.models.load import load_causal
from backflip.reward.model import score_all
from backflip.stages.context import StageContext

__all__ = ["ScaleSettings", "affordable", "scaled", "scaling"]

MOST, FEWEST = 64, 8
"""Answers: more make the scale hardly surer (±0.25 at 64), and fewer say nothing (±0.84 at 8)."""
SHARE = 0.25
"""Of the training's cost."""
LONGEST = 64
"""Tokens of an answer."""
READ = 1 / 3
"""Cost of a token that is read, as a share of one that is learnt from: forward without backward."""


@dataclass(frozen=True)
class ScaleSettings:
    """Whose answers set the scale, and how many of them."""

    policy: str | None
    answers: int | None


def scaled(
    context: StageContext,
    settings: ScaleSettings,
    model: RewardModel,
    sources: tuple[ComparisonBatch, ComparisonBatch | None],
    steps: int,
) -> dict[str, float | int]:
    """Set mean and std of the scores; say on how many answers, and how far they can be trusted.

    Where no policy is named it is the model that the stage starts from: in the usual order of
    things, what SFT made, and what PPO is to start from.

    Args:
        context: of the stage.
        settings: which policy, and how many answers where it is set.
        model: whose scores are to have a scale.
        sources: comparisons that were learnt from, and held-out ones, whose prompts are preferred.
        steps: that the training took.

    """
    recipe, (train, held_out) = context.recipe, sources
    prompts = [*(_prompts(held_out) if held_out is not None else []), *_prompts(train)]
    count = settings.answers or affordable(train, prompts, recipe.rows_per_step * steps)
    group = math.ceil(count / len(prompts))
    prompts = prompts[: math.ceil(count / group)]
    name = settings.policy or recipe.model
    other = "" if settings.policy else " (the model this one started from; policy=… names another)"
    context.say(f"setting the scale of the scores on {count} answers of {name}{other}")
    answers = _written(context, name, prompts, count)
    model.normalise(score_all(model, answers, recipe.token_budget, raw=True))
    found: dict[str, float | int] = {"scale_answers": len(answers)}
    said = f"  {len(answers)} answers to {len(prompts)} prompts: 0 is their mean score"
    if len(prompts) > 1:
        within = found["scale_within"] = mean_within(len(prompts))
        said += f", known to ±{within:.2f} of a standard deviation (95 %)"
    context.say(f"{said}; scale_answers=… sets how many")
    return found


def affordable(data: ComparisonBatch, prompts: list[list[int]], rows: int) -> int:
    """Answers that ``SHARE`` of learning from ``rows`` comparisons would pay for."""
    steps, first = data.answers.values, data.answers.offsets[:-1]
    tokens = steps.prompt.lengths[first].sum() + steps.answer.lengths.sum()
    learnt = float(tokens) / len(data) * rows
    prompt = sum(map(len, prompts)) / len(prompts)
    return min(max(int(SHARE * learnt / (LONGEST + READ * prompt)), FEWEST), MOST)


def scaling(learnt: float | int, answers: int | None) -> float:
    """Cost in tokens of training, after ``learnt`` of them; prompts left out.

    ``answers``: their number, where it is set.
    """
    if answers is not None:
        return float(answers * LONGEST)
    return float(min(max(SHARE * learnt, FEWEST * LONGEST), MOST * LONGEST))


def mean_within(prompts: int) -> float:
    """Half the width of Student's 95 % interval of a mean, in standard deviations of the scores.

    Answers to one prompt count as one, so it is rather too wide.
    """
    return float(stdtrit(prompts - 1, 0.975)) / math.sqrt(prompts)


def _written(context: StageContext, name: str, prompts: list[list[int]], count: int) -> TokenSteps:
    """``count`` answers of the policy, as many to each prompt as it takes."""
    recipe = context.recipe
    policy = load_causal(name, precision=recipe.precision)
    params = context.sampling(SamplingParams(max_tokens=LONGEST), policy)
    group = math.ceil(count / len(prompts))
    sampler = Sampler(engine=TorchEngine(policy), params=params, group_size=group)
    return sampler(prompts, seed=recipe.seed).steps[slice(count)]


def _prompts(data: ComparisonBatch) -> list[list[int]]:
    """The prompts, each once."""
    firsts = data.answers.offsets[:-1]
    found = [prompt.tolist() for prompt in data.answers.values[firsts].prompt.rows()]
    return [list(prompt) for prompt in dict.fromkeys(map(tuple, found))]
