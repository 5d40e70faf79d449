"""Base of the reward-model objectives: the answers of a batch with their raw scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.algorithms.base import Outcome
from backflip.data.batches import ComparisonBatch
from backflip.functional.reductions import Loss, weighted_mean
from backflip.functional.reward_losses import decided_pairs, tied_pairs


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


@dataclass(frozen=True)
class PairsWithTies:
    """All pairs of answers to each prompt: first those with a winner, then the tied ones."""

    delta: Float[Tensor, " P"]
    """Score of the winner (of a tie: of the first) minus that of the other."""
    tie: Bool[Tensor, " P"]
    prompt: Int[Tensor, " P"]


def pairs_with_ties(rated: Rated) -> PairsWithTies:
    """Every pair once, decided or not."""
    won, tied = decided_pairs(rated.rank, rated.prompt), tied_pairs(rated.rank, rated.prompt)
    first = torch.cat([won.better, tied.better])
    second = torch.cat([won.worse, tied.worse])
    tie = torch.arange(len(first), device=first.device) >= len(won.better)
    delta = rated.scores[first] - rated.scores[second]
    return PairsWithTies(delta, tie, torch.cat([won.prompt, tied.prompt]))


def preference(
    rated: Rated, per_prompt: Float[Tensor, " B"], weight: Float[Tensor, " B"]
) -> Outcome:
    """A loss per prompt as the one term of an objective, with what is watched beside it."""
    loss = weighted_mean(per_prompt, weight.to(per_prompt.device))
    return Outcome({"preference": loss}, pair_metrics(rated) | {"loss": loss.detached()})


@torch.no_grad()
def pair_metrics(rated: Rated) -> dict[str, Loss]:
    """Accuracy, margin, and moments of all scores."""
    pairs = decided_pairs(rated.rank, rated.prompt)
    delta = rated.scores[pairs.better] - rated.scores[pairs.worse]
    size = delta.new_tensor(float(len(delta)))
    right = (delta > 0).to(delta.dtype).sum()
    exact = rated.scores.double()  # a mean square less a squared mean cancels most digits
    answers = exact.new_tensor(float(len(exact)))
    return {
        "accuracy": Loss(right, size),
        "margin": Loss(delta.sum(), size),
        "score_mean": Loss(exact.sum(), answers),
        "score_mean_square": Loss(exact.square().sum(), answers),
    }


def prompts_with_a_winner(batch: ComparisonBatch) -> Float[Tensor, " B"]:
    """1 for each prompt whose answers are not all tied."""
    pairs = decided_pairs(batch.rank.values, batch.answers.owner())
    has = torch.zeros_like(batch.weight)
    has[pairs.prompt] = 1.0
    return has


def rankings(
    scores: Float[Tensor, " N"], rank: Int[Tensor, " N"], sizes: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """(scores, ranks, which of them exist) with a row for each prompt, of ``sizes`` answers."""
    mask = torch.arange(int(sizes.max()), device=scores.device) < sizes.to(scores.device)[:, None]
    return (
        scores.new_zeros(mask.shape).masked_scatter(mask, scores),
        rank.new_zeros(mask.shape).masked_scatter(mask, rank),
        mask,
    )
