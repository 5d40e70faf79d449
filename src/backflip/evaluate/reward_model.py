"""How far a reward model can be trusted: accuracy, calibration, and what it may be reading instead.

Scores are taken as the heads give them, before normalising: σ of a difference of those is the
probability that the model was trained to state. A policy's implicit rewards are scores as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backflip.data.batches import ComparisonBatch, TokenSteps
from backflip.data.counting import counted
from backflip.data.errors import UserError
from backflip.functional import statistics
from backflip.functional.reward_losses import Pairs, decided_pairs, tied_pairs
from backflip.functional.statistics import Interval, finite
from backflip.models.heads import RewardModel
from backflip.models.load import parameter_count
from backflip.reward.model import score_all

NOISY, TRIVIAL = 0.65, 0.90
"""Accuracies that deserve a word."""
SATURATED, NO_SPREAD = 100.0, 1e-3
"""Raw scores beyond the first, or whose deviation is below the second, say nothing more."""
CALIBRATED = (0.8, 1.25)
"""Calibration slopes between these are left uncommented."""
FEW = 50
"""Pairs below which every other number here is mostly chance."""
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
    """What was measured on a set of comparisons."""

    prompts: int
    pairs: int
    """Decided pairs: all pairs of a prompt whose ranks differ."""
    ties: int
    """Pairs that people could not decide; in none of the numbers below."""
    accuracy: Interval
    """Share of pairs ordered as people ordered them, with a bootstrap interval by prompt."""
    log_loss: Interval
    """Nats per pair; ln 2 = 0.69 is what guessing gets."""
    brier: Interval
    """Mean squared error of the stated probability; 0.25 is what guessing gets."""
    ece: float
    """Expected calibration error: mean distance of stated from true probability, 0 to 1."""
    reliability: tuple[tuple[float, float, int], ...]
    """(stated probability, share that was right, pairs), bin by bin."""
    slope: float
    """The a for which σ(a·Δ) fits best; below 1 the model claims too much."""
    temperature: float
    """1 / slope: what to divide scores by."""
    longer: Interval
    """Accuracy of "the longer reply wins", in tokens, ½ for equal lengths: the bar to clear."""
    shorter: Interval
    """Accuracy of "the shorter reply wins": 1 − ``longer``, the bar where people like it short."""
    slices: tuple[Slice, ...]
    """Accuracy where people preferred the longer reply, the shorter one, or lengths are alike."""
    scores: Scores
    sentences: tuple[str, ...]
    """What is to be noticed, in words."""

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
            "calibration_slope": finite(self.slope),
            "temperature": finite(self.temperature),
            **self.longer.named("baseline_longer"),
            **self.shorter.named("baseline_shorter"),
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


def evaluate_reward_model(
    model: RewardModel,
    batch: ComparisonBatch,
    *,
    policy_parameters: int | None = None,
    token_budget: int = 4096,
    seed: int = 0,
) -> RewardReport:
    """Score every answer once and compare with what people said.

    Each prompt is judged by the head that ``batch.head`` names. Weights and margins of the
    labels play no part; soft labels do, in the probabilities.

    Args:
        model: the reward model.
        batch: held-out comparisons, of two answers or more.
        policy_parameters: size of the policy to be trained against it, where it is known.
        token_budget: forest tokens in one micro-batch.
        seed: of the bootstrap.

    Raises:
        UserError: no pair is decided.

    """
    by_head = score_all(model, batch.answers.values, token_budget, raw=True)
    head = batch.head[batch.answers.owner()]
    scores = by_head.gather(1, head[:, None])[:, 0]
    parameters, _ = parameter_count(model)
    return report(
        scores, batch, parameters=parameters, policy_parameters=policy_parameters, seed=seed
    )


def report(
    scores: Float[Tensor, " N"],
    batch: ComparisonBatch,
    *,
    parameters: int = 0,
    policy_parameters: int | None = None,
    beta: float | None = None,
    seed: int = 0,
) -> RewardReport:
    """The same from raw scores that are known already, one per answer of ``batch``.

    ``beta``: of implicit rewards, what they are measured in; None for those of a reward model.

    Raises UserError where no pair is decided.
    """
    owner = batch.answers.owner()
    pairs, ties = (find(batch.rank.values, owner) for find in (decided_pairs, tied_pairs))
    if not len(pairs.better):
        raise UserError(
            f"none of {counted(len(batch), 'comparison')} is decided, so accuracy has no meaning. "
            "Give comparisons in which one answer is better than another."
        )
    said = _measured(scores, batch, pairs, ties=len(ties.better), seed=seed)
    sentences = remarks(said, parameters=parameters, policy_parameters=policy_parameters, beta=beta)
    return replace(said, sentences=tuple(sentences))


def _measured(
    scores: Float[Tensor, " N"], batch: ComparisonBatch, pairs: Pairs, *, ties: int, seed: int
) -> RewardReport:
    """All numbers of the report, without a word about them."""
    delta = scores[pairs.better] - scores[pairs.worse]
    soft, group = batch.soft[pairs.prompt], _prompts(batch)[pairs.prompt]
    length = batch.answers.values.answer.lengths
    curve = statistics.reliability_curve(delta, soft)

    longer_by = length[pairs.better] - length[pairs.worse]

    def mean(per_pair: Any, rows: Tensor | None = None) -> Interval:
        kept = group if rows is None else group[rows]
        return statistics.bootstrap_mean(per_pair, kept, seed=seed)

    return RewardReport(
        prompts=len(group.unique()),
        pairs=len(delta),
        ties=ties,
        accuracy=mean(statistics.accuracy(delta)),
        log_loss=mean(statistics.log_loss(delta, soft)),
        brier=mean(statistics.brier(delta, soft)),
        ece=statistics.calibration_error(delta, soft),
        reliability=tuple(
            (float(c), float(a), int(n))
            for c, a, n in zip(curve.confidence, curve.accuracy, curve.rows, strict=True)
        ),
        slope=statistics.calibration_slope(delta, soft),
        temperature=statistics.temperature(delta, soft),
        longer=mean(statistics.accuracy(longer_by)),
        shorter=mean(statistics.accuracy(-longer_by)),
        slices=_slices(delta, length, pairs, mean),
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
    """What a person should notice about these numbers; ``beta`` as in ``report``."""
    about_scores = _about_scores(said) if beta is None else _about_implicit(said, beta)
    found = [*_about_accuracy(said), *about_scores]
    if said.pairs < FEW:
        found.append(
            f"Only {counted(said.pairs, 'pair was', 'pairs were')} measured: collect more "
            "before believing this."
        )
    if policy_parameters is not None and parameters:
        found += _about_size(parameters, policy_parameters)
    return found


def size_class(parameters: int) -> int:
    """The class of a model among those in which models are published, from 0."""
    return sum(parameters > most for most in SIZE_CLASSES)


def _prompts(batch: ComparisonBatch) -> Int[Tensor, " B"]:
    """A number for each row's prompt, the same for rows that ask the same thing."""
    steps: TokenSteps = batch.answers.values
    first = batch.answers.offsets[:-1].tolist()
    numbers: dict[tuple[int, ...], int] = {}
    asked = [tuple(steps.prompt.row(row).tolist()) for row in first]
    return torch.tensor([numbers.setdefault(tokens, len(numbers)) for tokens in asked])


def _slices(
    delta: Float[Tensor, " P"], length: Int[Tensor, " N"], pairs: Pairs, mean: Any
) -> tuple[Slice, ...]:
    better, worse = length[pairs.better], length[pairs.worse]
    alike = (better - worse).abs() < 0.1 * torch.maximum(better, worse)
    parts: Mapping[str, Tensor] = {
        "longer reply preferred": ~alike & (better > worse),
        "shorter reply preferred": ~alike & (better < worse),
        "lengths within 10 %": alike,
    }
    return tuple(
        Slice(name, int(rows.sum()), mean(statistics.accuracy(delta[rows]), rows))
        for name, rows in parts.items()
        if rows.any()
    )


def _spread(scores: Float[Tensor, " N"]) -> Scores:
    exact = scores.double()
    std = float(exact.std()) if len(exact) > 1 else 0.0
    return Scores(float(exact.mean()), std, float(exact.min()), float(exact.max()))


def _about_accuracy(said: RewardReport) -> Sequence[str]:
    found: list[str] = []
    a = said.accuracy
    text = f"Accuracy is {_percent(a.estimate)}"
    if a.estimate < NOISY:
        found.append(f"{text}, under 65 %: the labels are noisy, or training has not converged.")
    elif a.estimate > TRIVIAL:
        found.append(
            f"{text}, over 90 %: it has memorised the data, or the comparisons are trivial."
        )
    baselines = {"longer": said.longer.estimate, "shorter": said.shorter.estimate}
    word, best = max(baselines.items(), key=lambda item: item[1])
    if a.low <= best:
        found.append(
            f"Choosing the {word} reply would get {_percent(best)}: the model is not clearly "
            "better than that."
        )
    by_name = {part.name: part.accuracy for part in said.slices}
    longer, shorter = (by_name.get(f"{w} reply preferred") for w in ("longer", "shorter"))
    if longer and shorter and (longer.low > shorter.high or shorter.low > longer.high):
        what = "length" if longer.low > shorter.high else "brevity"
        found.append(
            f"It is right on {_percent(longer.estimate)} of the pairs where people preferred the "
            f"longer reply and {_percent(shorter.estimate)} where the shorter: it rewards {what}."
        )
    return found


def _about_scores(said: RewardReport) -> Sequence[str]:
    found: list[str] = []
    far = max(abs(said.scores.low), abs(said.scores.high))
    if not math.isfinite(said.scores.std):
        found.append("Some scores are not numbers: training has diverged. Lower the learning rate.")
    elif far > SATURATED:
        found.append(
            f"Scores reach {far:.0f}, beyond ±100: saturated. Train for less, or set "
            "objective.centering_coef to 0.01."
        )
    elif said.scores.std < NO_SPREAD:
        found.append("All answers score the same: the model has learnt nothing to optimise.")
    elif said.pairs < FEW:
        pass  # so few pairs cannot tell a slope
    elif said.slope < CALIBRATED[0]:
        found.append(
            f"It claims more than it knows: divide scores by {said.temperature:.2g} to make their "
            "differences probabilities."
            if said.slope > 0
            else "Its scores point the wrong way: lower ones go to what people prefer."
        )
    elif said.slope > CALIBRATED[1] and math.isfinite(said.slope):
        found.append(
            f"It claims less than it knows: multiply scores by {said.slope:.2g} to make their "
            "differences probabilities."
        )
    return found


def _about_implicit(said: RewardReport, beta: float) -> Sequence[str]:
    """Only differences of implicit rewards mean anything, and those in units of ``beta``."""
    if not math.isfinite(said.scores.std):
        return ["Some implicit rewards are not numbers: training has diverged. Lower the rate."]
    if said.scores.std < NO_SPREAD * beta:
        return ["All implicit rewards are the same: the policy is still its reference."]
    if said.pairs < FEW:
        return []  # so few pairs cannot tell a slope
    if said.slope <= 0:
        return ["Its implicit rewards order against people: it holds likelier what they rejected."]
    wrong = said.slope < CALIBRATED[0] or CALIBRATED[1] < said.slope < math.inf
    if not wrong:
        return []
    more, how, factor = ("more", "divide", said.temperature)
    if said.slope > 1:
        more, how, factor = ("less", "multiply", said.slope)
    return [
        f"Read as probabilities, its implicit rewards claim {more} than they know: {how} them by "
        f"{factor:.2g} (they are in units of beta, {beta:g}) to make their differences "
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


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"
