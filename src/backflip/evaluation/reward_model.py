"""Evaluation of reward models: accuracy, calibration, and what it may be reading instead.

Scores are taken as the heads give them, before normalising: σ of a difference of those is the
probability that the model was trained to state. A policy's implicit rewards are scores as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from backflip.data.batches import ComparisonBatch, TokenSteps
from backflip.errors import UserError
from backflip.functional import statistics
from backflip.functional.reward_losses import Pairs, decided_pairs, tied_pairs
from backflip.functional.statistics import Interval, finite
from backflip.monitor.text import TOO_FEW, Estimate, about_accuracy, apart, beyond, share_ranged
from backflip.text import counted

SATURATED, NO_SPREAD = 100.0, 1e-3
"""Raw scores beyond the first, or whose deviation is below the second, say nothing more."""
CALIBRATED = (0.8, 1.25)
"""Calibration slopes between these are left uncommented."""
SIZE_CLASSES = (0.2e9, 0.75e9, 2e9, 4.5e9, 10e9, 20e9, 45e9, 100e9)
"""Parameters up to which a model belongs to each class: those in which models are published."""
CLASS_NAMES = ("0.1 B", "0.5 B", "1.5 B", "3 B", "7 B", "14 B", "32 B", "70 B", "over 100 B")


@dataclass(frozen=True)
class Slice:
    """Accuracy on some of the pairs."""

    name: str
    pairs: int
    accuracy: Interval


@dataclass(frozen=True)
class Scores:
    """Raw scores of all answers."""

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class RewardReport:
    """Measurements of a reward model on a set of comparisons."""

    prompts: int
    pairs: int
    """Decided pairs: all pairs of a prompt whose ranks differ."""
    ties: int
    """Pairs that people could not decide; in none of the numbers below."""
    accuracy: Interval
    """Share of pairs ordered as people ordered them; all intervals here go by prompt."""
    log_loss: Interval
    """Nats per pair; ln 2 = 0.69 is what guessing gets."""
    brier: Interval
    """Mean squared error of the stated probability; 0.25 is what guessing gets."""
    ece: float
    """Expected calibration error: mean distance of stated from true probability, 0 to 1."""
    reliability: tuple[tuple[float, float, int], ...]
    """(stated probability, share that was right, pairs), bin by bin."""
    slope: Interval
    """The a for which σ(a·Δ) fits best; below 1 the model claims too much."""
    temperature: float
    """1 / slope: what to divide scores by."""
    longer: Interval
    """Accuracy of "the longer reply wins", in tokens, ½ for equal lengths: the bar to clear."""
    shorter: Interval
    """Accuracy of "the shorter reply wins": 1 − ``longer``, the bar where people like it short."""
    over_length: Interval
    """Accuracy less the greater of the two, pair by pair."""
    slices: tuple[Slice, ...]
    """Accuracy where people preferred the longer reply, the shorter one, or lengths are alike."""
    scores: Scores
    sentences: tuple[str, ...]
    """Remarks on the numbers, in words."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite; keys as in a run's ``summary.json``."""
        return {
            "prompts": self.prompts,
            "pairs": self.pairs,
            "ties": self.ties,
            **self.accuracy.named("accuracy"),
            **self.log_loss.named("log_loss"),
            **self.brier.named("brier"),
            "ece": finite(self.ece),
            "reliability": [
                {"confidence": finite(claimed), "accuracy": finite(right), "count": rows}
                for claimed, right, rows in self.reliability
            ],
            **self.slope.named("calibration_slope"),
            "temperature": finite(self.temperature),
            **self.longer.named("baseline_longer"),
            **self.shorter.named("baseline_shorter"),
            **self.over_length.named("over_length"),
            "slices": {
                part.name: {"pairs": part.pairs, **part.accuracy.named("accuracy")}
                for part in self.slices
            },
            "score_mean": finite(self.scores.mean),
            "score_std": finite(self.scores.std),
            "score_min": finite(self.scores.low),
            "score_max": finite(self.scores.high),
            "sentences": list(self.sentences),
        }


def report(
    scores: Float[Tensor, " N"],
    batch: ComparisonBatch,
    *,
    parameters: int = 0,
    policy_parameters: int | None = None,
    beta: float | None = None,
) -> RewardReport:
    """Compare scores with what people said; weights and margins of the labels play no part, soft
    labels do, in the probabilities.

    Args:
        scores: raw ones, one for each answer of ``batch``.
        batch: held-out comparisons, of two answers or more.
        parameters: size of the model, where it is known.
        policy_parameters: size of the policy to be trained against it, where it is known.
        beta: of implicit rewards, what they are measured in; None for those of a reward model.

    Raises:
        UserError: no pair is decided.

    """
    owner = batch.answers.owner()
    pairs, ties = (find(batch.rank.values, owner) for find in (decided_pairs, tied_pairs))
    if not len(pairs.better):
        raise UserError(
            f"none of {counted(len(batch), 'comparison')} is decided, so accuracy has no meaning. "
            "Give comparisons in which one answer is better than another."
        )
    known = torch.isfinite(scores[pairs.better] - scores[pairs.worse])
    pairs = Pairs(*(part[known] for part in pairs)) if known.any() else pairs
    with np.errstate(invalid="ignore"):  # scores of a model that has diverged
        said = _measured(scores, batch, pairs, ties=len(ties.better))
    sentences = remarks(said, parameters=parameters, policy_parameters=policy_parameters, beta=beta)
    return replace(said, sentences=tuple(sentences))


def _measured(
    scores: Float[Tensor, " N"], batch: ComparisonBatch, pairs: Pairs, *, ties: int
) -> RewardReport:
    """All numbers of the report, without a word about them."""
    delta = scores[pairs.better] - scores[pairs.worse]
    soft, group = batch.soft[pairs.prompt], prompt_numbers(batch)[pairs.prompt]
    length = batch.answers.values.answer.lengths
    curve = statistics.reliability_curve(delta, soft)

    longer_by = length[pairs.better] - length[pairs.worse]

    def share_of(per_pair: Any, rows: Tensor | None = None) -> Interval:
        return statistics.share_interval(per_pair, group if rows is None else group[rows])

    right, by_length = statistics.accuracy(delta), statistics.accuracy(longer_by)
    better = by_length if by_length.mean() >= 0.5 else 1 - by_length

    return RewardReport(
        prompts=len(group.unique()),
        pairs=len(delta),
        ties=ties,
        accuracy=share_of(right),
        log_loss=statistics.mean_interval(
            statistics.log_loss(delta, soft), group, within=(0.0, math.inf)
        ),
        brier=statistics.mean_interval(statistics.brier(delta, soft), group, within=(0.0, 1.0)),
        ece=statistics.calibration_error(delta, soft),
        reliability=tuple(
            (float(c), float(a), int(n))
            for c, a, n in zip(curve.confidence, curve.accuracy, curve.rows, strict=True)
        ),
        slope=statistics.slope_interval(delta, soft, group),
        temperature=statistics.temperature(delta, soft),
        longer=share_of(by_length),
        shorter=share_of(1 - by_length),
        over_length=statistics.paired_difference(right, better, group),
        slices=_slices(delta, length, pairs, share_of),
        scores=_spread(scores),
        sentences=(),
    )


def remarks(
    said: RewardReport,
    *,
    parameters: int = 0,
    policy_parameters: int | None = None,
    beta: float | None = None,
) -> list[str]:
    """Remarks on these numbers, in words; ``beta`` as in ``report``."""
    found = list(_about_accuracy(said))
    found += _about_scores(said) if beta is None else _about_implicit(said, beta)
    if not said.accuracy.enough:
        pairs, prompts = counted(said.pairs, "pair"), counted(said.prompts, "prompt")
        found.append(f"Only {pairs} of {prompts} measured: {TOO_FEW}.")
    if policy_parameters is not None and parameters:
        found += _about_size(parameters, policy_parameters)
    return found


def size_class(parameters: int) -> int:
    """The class of a model among those in which models are published, from 0."""
    return sum(parameters > most for most in SIZE_CLASSES)


def prompt_numbers(batch: ComparisonBatch) -> Int[Tensor, " B"]:
    """A number for each row's prompt, the same for rows that ask the same thing."""
    steps: TokenSteps = batch.answers.values
    first = batch.answers.offsets[:-1].tolist()
    numbers: dict[tuple[int, ...], int] = {}
    asked = [tuple(steps.prompt.row(row).tolist()) for row in first]
    return torch.tensor([numbers.setdefault(tokens, len(numbers)) for tokens in asked])


def _slices(
    delta: Float[Tensor, " P"], length: Int[Tensor, " N"], pairs: Pairs, share_of: Any
) -> tuple[Slice, ...]:
    better, worse = length[pairs.better], length[pairs.worse]
    alike = (better - worse).abs() < 0.1 * torch.maximum(better, worse)
    parts: Mapping[str, Tensor] = {
        "longer reply preferred": ~alike & (better > worse),
        "shorter reply preferred": ~alike & (better < worse),
        "lengths within 10 %": alike,
    }
    return tuple(
        Slice(name, int(rows.sum()), share_of(statistics.accuracy(delta[rows]), rows))
        for name, rows in parts.items()
        if rows.any()
    )


def _spread(scores: Float[Tensor, " N"]) -> Scores:
    exact = scores.double()
    std = float(exact.std()) if len(exact) > 1 else 0.0
    return Scores(float(exact.mean()), std, float(exact.min()), float(exact.max()))


def _about_accuracy(said: RewardReport) -> Sequence[str]:
    baselines = {"longer": said.longer.estimate, "shorter": said.shorter.estimate}
    best = max(baselines.items(), key=lambda item: item[1])
    found = about_accuracy(Estimate.of(said.accuracy), best, Estimate.of(said.over_length))
    by_name = {part.name: part.accuracy for part in said.slices}
    longer, shorter = (by_name.get(f"{w} reply preferred") for w in ("longer", "shorter"))
    if said.accuracy.enough and longer and shorter:
        found += _about_length(Estimate.of(longer), Estimate.of(shorter))
    return found


def _about_length(longer: Estimate, shorter: Estimate) -> list[str]:
    """Where the pairs that longer replies won come out otherwise than those that shorter ones won,
    and their intervals do not meet.
    """
    if (longer.units or 0) + (shorter.units or 0) < statistics.FEWEST:
        return []
    ends = [longer.low, shorter.high, shorter.low, longer.high]
    if longer.low > shorter.high:
        what = "length"
    elif shorter.low > longer.high:
        what = "brevity"
    else:
        return []
    (one, its), (other, others) = (share_ranged(part, beside=ends) for part in (longer, shorter))
    return [
        f"It is right on {one} ({its}) of the pairs where people preferred the longer reply and "
        f"{other} ({others}) where the shorter: it rewards {what}."
    ]


def _about_scores(said: RewardReport) -> Sequence[str]:
    far = max(abs(said.scores.low), abs(said.scores.high))
    if not math.isfinite(said.scores.std):
        return [
            "Some scores are not numbers, and their pairs in none of these: training has diverged. "
            "Lower the learning rate."
        ]
    if far > SATURATED:
        shown, _ = apart([far, SATURATED], digits=0)
        return [
            f"Scores reach {shown}, beyond ±100: saturated. Train for less, or set "
            "objective.centering_coef to 0.01."
        ]
    if said.scores.std < NO_SPREAD:
        learnt = ": the model has learnt nothing to optimise" if said.accuracy.enough else ""
        return [f"All answers score the same{learnt}."]
    if beyond(Estimate.of(said.accuracy), 0.5) < 0:
        return ["Its scores point the wrong way: lower ones go to what people prefer."]
    if (claim := _claim(said)) is None:
        return []
    return [
        f"It claims {claim[0]} than it knows: {claim[1]} scores by {claim[2]:.2g} to make their "
        "differences probabilities."
    ]


def _claim(said: RewardReport) -> tuple[str, str, float] | None:
    """Where the interval of the slope leaves 1, and the slope is far from it: (more or less, divide
    or multiply, by how much).
    """
    slope, way = said.slope.estimate, beyond(Estimate.of(said.slope), 1.0)
    if way < 0 and 0 < slope < CALIBRATED[0]:
        return "more", "divide", said.temperature
    if way > 0 and slope > CALIBRATED[1]:
        return "less", "multiply", slope
    return None


def _about_implicit(said: RewardReport, beta: float) -> Sequence[str]:
    """Only differences of implicit rewards mean anything, and those in units of ``beta``."""
    if not math.isfinite(said.scores.std):
        return ["Some implicit rewards are not numbers: training has diverged. Lower the rate."]
    if said.scores.std < NO_SPREAD * beta:
        return ["All implicit rewards are the same: the policy is still its reference."]
    if beyond(Estimate.of(said.accuracy), 0.5) < 0:
        return ["Its implicit rewards order against people: it holds likelier what they rejected."]
    if (claim := _claim(said)) is None:
        return []
    return [
        f"Read as probabilities, its implicit rewards claim {claim[0]} than they know: {claim[1]} "
        f"them by {claim[2]:.2g} (they are in units of beta, {beta:g}) to make their differences "
        "probabilities."
    ]


def _about_size(parameters: int, policy_parameters: int) -> Sequence[str]:
    mine, other = size_class(parameters), size_class(policy_parameters)
    if other - mine <= 1:
        return []
    return [
        f"The reward model ({CLASS_NAMES[mine]} class) is more than one size class below the "
        f"policy ({CLASS_NAMES[other]}): the policy will find what it cannot see."
    ]
