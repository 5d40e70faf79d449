"""Metrics of a batch: rewards, distance to the reference, diversity, the critic, and correlations.

Everything is taken on sampled answers, so a KL is an estimate: k1 = log π − log π_ref is unbiased
and may be negative on a batch, k3 = e^(−k1) − 1 + k1 is never negative (Schulman, 2020). Functions
of a whole batch return only the numbers that exist: no correlation where all lengths are equal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.data.batches import Experience, Scored, TokenSteps
from backflip.functional.kl import answer_kl, kl_k3
from backflip.functional.statistics import distinct_n, pearson
from backflip.monitor.wording import within_prompts, wording_metrics

Tokens = Sequence[Sequence[int]]
"""Answers as token ids."""
ALWAYS = frozenset({"reward", "reward_std", "kl", "kl_k3", "entropy", "approx_kl", "ratio_mean"})
"""Metrics that every batch has: here NaN means that something broke."""
MOMENTS = ("reward", "length", "reward_2", "length_2", "reward_length")
"""Means of r, l, r², l² and r·l over answers, logged as ``moment_…``."""
ROUNDING = 1e-12
"""A variance below this share of the mean square is nothing but rounding."""


def scored_metrics(scored: Scored) -> dict[str, float]:
    """Rewards, KL to the reference, entropy, length and diversity of a batch of judged answers.

    ``entropy`` is the mean surprise of the choices made, −log π in nats per choice, an unbiased
    estimate of the policy's entropy. A mean over no choices is left out.
    """
    rollouts, scores = scored.rollouts, scored.total()
    lengths, logps = rollouts.mask.sum(-1), (scored.logp_old, scored.logp_ref)
    metrics = {
        "reward": float(scores.mean()),
        "reward_std": float(scores.std(correction=0)),
        "kl": float(answer_kl(*logps, rollouts.mask).mean()),
        "kl_k3": float(per_answer(kl_k3(*logps), rollouts.mask).mean()),
        "entropy": -masked_mean(scored.logp_old, rollouts.mask),
        "length": float(lengths.to(scores.dtype).mean()),
        "finished": float(rollouts.finished.to(scores.dtype).mean()),
        "score_length_corr": pearson(scores, lengths),
    }
    if isinstance(rollouts.steps, TokenSteps):
        answers = [row.tolist() for row in rollouts.steps.answer.rows()]
        groups = rollouts.group.tolist()
        metrics |= diversity_metrics(answers, groups) | wording_metrics(answers, groups)
        metrics["score_length_corr_within"] = within_prompts(scores, lengths, rollouts.group)
    return _existing(metrics)


def experience_metrics(experience: Experience) -> dict[str, float]:
    """``scored_metrics``, the spread of the advantages, and how good the critic's guess was."""
    scored = experience.scored
    mask = scored.rollouts.mask
    metrics = scored_metrics(scored)
    metrics["advantage_std"] = masked_std(experience.advantages, mask)
    if bool((experience.returns[mask] != 0).any()):
        returns, values = experience.returns, scored.values
        metrics["explained_variance"] = explained_variance(values, returns, mask)
    return _existing(metrics)


def diversity_metrics(answers: Tokens, groups: Sequence[Hashable]) -> dict[str, float]:
    """Diversity across all answers, and within the answers to one prompt (Kirk et al., 2023).

    ``groups`` names the prompt of each answer; prompts with one answer say nothing about within.
    """
    siblings: dict[Hashable, list[Sequence[int]]] = defaultdict(list)
    for group, answer in zip(groups, answers, strict=True):
        siblings[group].append(answer)
    within = [distinct_n(rows, n=2) for rows in siblings.values() if len(rows) > 1]
    within = [value for value in within if math.isfinite(value)]
    return _existing(
        {
            "unique_tokens": distinct_n(answers, n=1),
            "distinct_2": distinct_n(answers, n=2),
            "distinct_2_within": sum(within) / len(within) if within else math.nan,
            "duplicate_answers": duplicate_share(answers),
        }
    )


def per_answer(x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Σ over the choices of each answer: from nats per choice to nats per answer."""
    return torch.where(mask, x, 0.0).sum(-1)


def duplicate_share(answers: Tokens) -> float:
    """The share of answers that repeat an earlier one of the batch, token by token."""
    return 1 - len({tuple(answer) for answer in answers}) / len(answers) if answers else math.nan


def explained_variance(
    values: Float[Tensor, "B T"], returns: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> float:
    """1 − Var(returns − values) / Var(returns): 1 is perfect, 0 no better than a constant."""
    spread = masked_std(returns, mask) ** 2
    return 1 - masked_std(returns - values, mask) ** 2 / spread if spread > 0 else math.nan


def masked_mean(x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> float:
    """Mean over choices; NaN where there is none."""
    return float(x[mask].mean()) if bool(mask.any()) else math.nan


def masked_std(x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> float:
    """Population standard deviation over choices; NaN where there is none."""
    return float(x[mask].std(correction=0)) if bool(mask.any()) else math.nan


def group_spread(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> float:
    """Mean over prompts of the standard deviation of their answers' scores; NaN without siblings.

    Near 0, the answers to a prompt are all judged alike, and group baselines have no signal.
    """
    stds = [
        float(scores[group == g].std(correction=0))
        for g in group.unique()
        if int((group == g).sum()) > 1
    ]
    return sum(stds) / len(stds) if stds else math.nan


def _existing(metrics: dict[str, float]) -> dict[str, float]:
    """Leave out what is not defined on this batch; a score gone NaN stays, for the alarms."""
    return {k: v for k, v in metrics.items() if k in ALWAYS or not math.isnan(v)}


# ---- of the whole batch, from sums that are added up piece by piece


def derived(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics, with what is made of sums in the place of the sums.

    ``score_mean_square`` becomes ``score_std``; the five moments become
    ``length_reward_correlation``, Pearson's, which is left out where all rewards or all lengths
    are equal. All of it for ``val_…`` too.
    """
    numbers = dict(metrics)
    for prefix in ("", "val_"):
        _spread(numbers, prefix)
        _correlation(numbers, prefix)
    return numbers


def _spread(numbers: dict[str, float], prefix: str) -> None:
    square = numbers.pop(f"{prefix}score_mean_square", None)
    if square is not None:
        variance = square - numbers[f"{prefix}score_mean"] ** 2
        numbers[f"{prefix}score_std"] = math.sqrt(max(variance, 0.0))


def _correlation(numbers: dict[str, float], prefix: str) -> None:
    sums = [numbers.pop(f"{prefix}moment_{name}", None) for name in MOMENTS]
    known = [value for value in sums if value is not None and math.isfinite(value)]
    if len(known) < len(MOMENTS):
        return
    reward, length, reward_2, length_2, product = known
    variances = (reward_2 - reward**2, length_2 - length**2)
    if variances[0] <= ROUNDING * reward_2 or variances[1] <= ROUNDING * length_2:
        return
    r = (product - reward * length) / math.sqrt(variances[0] * variances[1])
    numbers[f"{prefix}length_reward_correlation"] = min(max(r, -1.0), 1.0)
