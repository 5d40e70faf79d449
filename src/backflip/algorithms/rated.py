"""What every reward-model objective starts from: the answers of a batch with their raw scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backflip.data.batches import ComparisonBatch
from backflip.functional.reductions import Loss
from backflip.functional.reward_losses import decided_pairs


@dataclass(frozen=True)
class Rated:
    """N answers to B prompts, scored by the head that learns from each prompt."""

    scores: Float[Tensor, " N"]
    rank: Int[Tensor, " N"]
    prompt: Int[Tensor, " N"]


def rate(model: Any, batch: ComparisonBatch) -> Rated:
    """Score all answers of the batch in one forward pass."""
    by_head = model.raw_scores(batch.answers.values)
    prompt = batch.answers.owner()
    head = batch.head[prompt].to(by_head.device)
    scores = by_head.gather(1, head[:, None])[:, 0]
    return Rated(scores, batch.rank.values.to(by_head.device), prompt.to(by_head.device))


@torch.no_grad()
def pair_metrics(rated: Rated) -> dict[str, Loss]:
    """How often the better answer scores higher, and by how much."""
    pairs = decided_pairs(rated.rank, rated.prompt)
    delta = rated.scores[pairs.better] - rated.scores[pairs.worse]
    size = delta.new_tensor(float(len(delta)))
    right = (delta > 0).to(delta.dtype).sum()
    answers = delta.new_tensor(float(len(rated.scores)))
    return {
        "accuracy": Loss(right, size),
        "margin": Loss(delta.sum(), size),
        "score_mean": Loss(rated.scores.sum(), answers),
    }


def prompts_with_a_winner(batch: ComparisonBatch) -> Float[Tensor, " B"]:
    """1 for each prompt whose answers are not all tied."""
    pairs = decided_pairs(batch.rank.values, batch.answers.owner())
    has = torch.zeros(len(batch))
    has[pairs.prompt] = 1.0
    return has
