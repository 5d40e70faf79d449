"""Who deserves the score: advantages of answers over their siblings, which replace a critic.

``group`` numbers the prompt of each answer; any integers will do. Answers of a group that all score
the same teach nothing: their advantages are exactly zero, whatever the rounding of their mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.functional.credit import NOISE


def group_centred(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Score − mean of the group (Dr. GRPO: Liu et al., 2025)."""
    return torch.where(has_signal(scores, group), scores - group_mean(scores, group)[0], 0.0)


def group_relative(
    scores: Float[Tensor, " B"], group: Int[Tensor, " B"], *, divide_by_std: bool = True
) -> Float[Tensor, " B"]:
    """How much better each answer is than its siblings (GRPO: Shao et al., 2024, §4.1.2).

    Divides by the standard deviation of the group itself (no correction). Without
    ``divide_by_std`` it is ``group_centred``.
    """
    centred = group_centred(scores, group)
    return centred / spread(scores, group) if divide_by_std else centred


def leave_one_out(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Score − mean score of the k − 1 siblings (RLOO: Ahmadian et al., 2024).

    This is k/(k − 1) times the centred score; 0 for an answer without siblings, such as one whose
    siblings could not be scored: there is nothing to compare it with.
    """
    size = group_mean(scores, group)[1]
    return group_centred(scores, group) * size / (size - 1).clamp(min=1)


def max_likelihood(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """(score − mean)/mean; 0 where the mean is 0 (MaxRL: 2602.02710).

    With scores of 0 and 1 the mean is the share of right answers, and the average over them
    of ∇ log π estimates the gradient of log P(right) as far as the group can see. Scores must not
    be negative.
    """
    mean = group_mean(scores, group)[0]
    return torch.where(mean > 0, group_centred(scores, group) / mean.clamp(min=TINY), 0.0)


def length_weighted(
    scores: Float[Tensor, " B"], group: Int[Tensor, " B"], lengths: Int[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """Score − Σ nᵢRᵢ/Σ nᵢ of the group (OPO: Hao et al., 2025).

    The baseline of least variance where the squared gradient of an answer grows with its length n.
    """
    weight = lengths.to(scores.dtype)
    total = group_mean(weight, group)[0]
    expected = group_mean(weight * scores, group)[0] / total.clamp(min=TINY)
    return torch.where(has_signal(scores, group), scores - expected, 0.0)


def useful_share(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> float:
    """Share of the answers whose group has two scores or more; 1/α of GPG (Chu et al., 2025)."""
    return float(has_signal(scores, group).float().mean()) if len(scores) else 0.0


def normalised_sum(
    parts: Float[Tensor, "B K"], group: Int[Tensor, " B"], *, weights: Float[Tensor, " K"]
) -> Float[Tensor, " B"]:
    """Σ wₖ·zₖ, each of K rewards normalised over its group alone, then whitened over the batch.

    GDPO (2601.05242): rewards that differ in scale, or whose sums coincide, keep their
    own say. The whitening counts answers, not tokens.
    """
    each = [group_relative(column, group) for column in parts.unbind(-1)]
    total = (torch.stack(each, -1) * weights).sum(-1)
    everyone = torch.zeros_like(group)
    return group_relative(total, everyone)


def step_relative(
    rewards: Float[Tensor, "B T"], ends: Bool[Tensor, "B T"], group: Int[Tensor, " B"]
) -> Float[Tensor, "B T"]:
    """Rewards of steps, normalised over all steps of the group; 0 where no step ends.

    GRPO with process supervision (Shao et al., 2024, §4.1.3): a group's mean and deviation are
    over the steps of all its answers together, so that answers of many steps weigh more.
    """
    owner = group[:, None].expand_as(rewards)[ends]
    return torch.zeros_like(rewards).masked_scatter(ends, group_relative(rewards[ends], owner))


TINY = 1e-30


def has_signal(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """True where the scores of the group differ by more than their own rounding."""
    centred = scores - group_mean(scores, group)[0]
    std = group_mean(centred**2, group)[0].sqrt()
    return std > NOISE * group_mean(scores.abs(), group)[0]


def spread(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Standard deviation of each row's group, without correction; 1 where nothing differs."""
    centred = scores - group_mean(scores, group)[0]
    std = group_mean(centred**2, group)[0].sqrt()
    return torch.where(has_signal(scores, group), std, 1.0)


def group_mean(
    x: Float[Tensor, " B"], group: Int[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Int[Tensor, " B"]]:
    """Per row, the mean of ``x`` over its group and the group's size; any integers will do.

    Summed in float64, so that the mean of equal float32 scores is that score, whatever its size.
    """
    if not len(group):
        return x, torch.zeros_like(group)
    ordered, order = group.sort()
    number = nnf.pad((ordered.diff() != 0).long().cumsum(0), (1, 0))
    row = torch.empty_like(order).scatter_(0, order, number)
    sizes = torch.bincount(row)
    sums = torch.zeros(len(sizes), dtype=torch.float64, device=x.device).index_add(
        0, row, x.double()
    )
    return (sums / sizes).to(x.dtype)[row], sizes[row]
