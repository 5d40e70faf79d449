"""A trained reward model as a judge of rollouts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts, TokenSteps
from backflip.distributed.reading import read_in_parts
from backflip.models.heads import RewardModel
from backflip.reward.ensemble import Combination, combine
from backflip.reward.protocol import Judgement


class RewardModelSource:
    """Scores on the normalised scale by the model's members, combined where there are several.

    Of a head that is held out the scores are watched, as ``heldout``; of several members their
    standard deviation, as ``spread``.
    """

    def __init__(
        self,
        model: RewardModel,
        *,
        token_budget: int = 4096,
        how: Combination = "mean",
        uncertainty_coef: float = 0.1,
    ) -> None:
        """``how`` and ``uncertainty_coef``: see ``combine``."""
        self.model, self.token_budget = model, token_budget
        self.how: Combination = how
        self.uncertainty_coef = uncertainty_coef

    def __call__(self, rollouts: Rollouts) -> Judgement:
        many = self.model.members
        scores = score_all(self.model, rollouts.steps, self.token_budget)
        mine, others = scores[:, :many].T, scores[:, many:]
        parts = {"heldout": others[:, 0]} if others.shape[1] else {}
        if many == 1:
            return Judgement(mine[0], parts)
        combined = combine(mine, self.how, uncertainty_coef=self.uncertainty_coef)
        return Judgement(combined, {**parts, "spread": mine.std(0, correction=0)})

    def features(self, rollouts: Rollouts) -> Float[Tensor, "B D"]:
        """Hidden states that the scores of B answers are read off, on the CPU."""
        out: list[Tensor] = [torch.zeros(0)] * len(rollouts)
        read, model = self.model.features, self.model
        for rows, hidden in read_in_parts(model, rollouts.steps, self.token_budget, read):
            for row, values in zip(rows.tolist(), hidden, strict=True):
                out[row] = values.cpu()
        return torch.stack(out)


def score_all(
    model: RewardModel, steps: TokenSteps, token_budget: int = 4096, *, raw: bool = False
) -> Float[Tensor, "B heads"]:
    """Scores of any number of answers, in micro-batches, without a graph; on the CPU."""
    out = torch.zeros(len(steps), model.heads)
    read = model.raw_scores if raw else model.scores
    for rows, scores in read_in_parts(
        model, steps, token_budget, read, told="scoring", unit="answers"
    ):
        out[rows] = scores
    return out
