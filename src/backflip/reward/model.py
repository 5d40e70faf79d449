"""A trained reward model as a judge of rollouts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts, TokenSteps
from backflip.distributed.reading import read_in_parts
from backflip.models.heads import RewardModel
from backflip.reward.protocol import Judgement


class RewardModelSource:
    """Scores on the normalised scale by head 0; head 1, where there is one, is held out."""

    def __init__(self, model: RewardModel, *, token_budget: int = 4096) -> None:
        self.model, self.token_budget = model, token_budget

    def __call__(self, rollouts: Rollouts) -> Judgement:
        scores = score_all(self.model, rollouts.steps, self.token_budget)
        parts = {"heldout": scores[:, 1]} if scores.shape[1] > 1 else {}
        return Judgement(scores[:, 0], parts)


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
