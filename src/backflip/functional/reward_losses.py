"""Losses of reward models on comparisons, per pair or per prompt and not reduced.

Scores are log-strengths: the odds that answer i beats answer j are exp(s_i − s_j). ``delta`` is
the score of the answer that was preferred minus the score of the other. Ranks start with 0 for
the best; equal ranks are ties. Answers of one prompt carry the same number 0 … B − 1 in ``prompt``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Pairs(NamedTuple):
    """Pairs of answers of one prompt, as indices into the list of answers."""

    better: Int[Tensor, " P"]
    worse: Int[Tensor, " P"]
    """In a tie nobody is better: the first and the second of the two."""
    prompt: Int[Tensor, " P"]


def bradley_terry(
    delta: Float[Tensor, "*shape"],
    margin: Float[Tensor, "*shape"] | float = 0.0,
    soft: Float[Tensor, "*shape"] | float = 1.0,
) -> Float[Tensor, "*shape"]:
    """−log σ(Δ − margin), the preferred answer wins (Bradley & Terry, 1952).

    ``margin`` ≥ 0 is how far apart the labels call for (Llama 2: Touvron et al., 2023, eq. 2).
    ``soft`` is P(the label is right): the loss is the mean over both orders of the pair, each
    with its margin, so that without one it is the cross-entropy of σ(Δ) to ``soft``.
    """
    as_labelled = nnf.softplus(margin - delta)
    turned_round = nnf.softplus(margin + delta)
    return soft * as_labelled + (1 - soft) * turned_round


def scaled_bradley_terry(
    delta: Float[Tensor, "*shape"], strength: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """−strength · log σ(Δ): a strong preference counts like several (HelpSteer2: Wang, 2024)."""
    return -strength * nnf.logsigmoid(delta)


def centering(
    better: Float[Tensor, "*shape"], worse: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """(s_better + s_worse)²: keeps scores around zero, which no comparison asks of them.

    Eisenstein et al. (2023); a coefficient of 0.01 is usual.
    """
    return (better + worse) ** 2


def rao_kupper(
    delta: Float[Tensor, "*shape"], tie: Bool[Tensor, "*shape"], *, theta: float
) -> Float[Tensor, "*shape"]:
    """−log P(outcome) where scores closer than log θ can tie (Rao & Kupper, 1967).

    P(win) = σ(Δ − log θ)      P(tie) = (θ² − 1) · σ(Δ − log θ) · σ(−Δ − log θ)

    θ = 1 is Bradley-Terry, which knows no ties.

    Raises ValueError for θ < 1, and for a tie although θ = 1.
    """
    if theta < 1 or (theta == 1 and bool(tie.any())):
        raise ValueError(
            f"rao_kupper needs theta above 1 to explain a tie; theta is {theta:g}. "
            "Set theta to 1.5 or so (equal answers then tie 20 % of the time), or drop the ties."
        )
    threshold = math.log(theta)
    win = nnf.softplus(threshold - delta)
    if theta == 1:
        return win
    drawn = win + nnf.softplus(threshold + delta) - math.log(theta**2 - 1)
    return torch.where(tie, drawn, win)


def davidson(
    delta: Float[Tensor, "*shape"], tie: Bool[Tensor, "*shape"], *, nu: float
) -> Float[Tensor, "*shape"]:
    """−log P(outcome) where a tie is as strong as ν times the geometric mean (Davidson, 1970).

    P(win) ∝ exp(Δ/2)      P(loss) ∝ exp(−Δ/2)      P(tie) ∝ ν

    ν = 0 is Bradley-Terry, which knows no ties; two equal answers tie with ν/(2 + ν).

    Raises ValueError for ν < 0, and for a tie although ν = 0.
    """
    if nu < 0 or (nu == 0 and bool(tie.any())):
        raise ValueError(
            f"davidson needs nu above 0 to explain a tie; nu is {nu:g}. "
            "Set nu to 0.5 or so (equal answers then tie 20 % of the time), or drop the ties."
        )
    log_nu = math.log(nu) if nu else -math.inf
    weights = torch.stack([delta / 2, -delta / 2, torch.full_like(delta, log_nu)])
    outcome = torch.where(tie, log_nu, delta / 2) if nu else delta / 2
    return weights.logsumexp(dim=0) - outcome


def plackett_luce(
    scores: Float[Tensor, "B K"], rank: Int[Tensor, "B K"], mask: Bool[Tensor, "B K"]
) -> Float[Tensor, " B"]:
    """−log P(ranking) of up to K answers: the best is drawn first, then the best of the rest.

    −Σ_i log( exp s_i / Σ_{j not ranked before i} exp s_j )      (Plackett, 1975; Luce, 1959)

    ``mask`` is True on answers that exist. Ties follow Efron (1977): while d tied answers are
    drawn one by one, each of them still counts (1 − l/d) in the denominator of the l-th draw, so
    their order does not matter and the loss draws their scores together. K = 2 is Bradley-Terry.
    """
    present = mask[:, :, None] & mask[:, None, :]
    tied = present & (rank[:, :, None] == rank[:, None, :])
    behind = present & (rank[:, :, None] < rank[:, None, :])
    drawn_before = tied.tril(diagonal=-1).sum(-1) / tied.sum(-1).clamp(min=1)
    weight = behind + tied * (1 - drawn_before)[:, :, None]
    weight = weight + torch.diag_embed((~mask).to(weight.dtype))  # log of nothing has no gradient
    shown = torch.where(mask, scores, 0.0)
    denominator = (shown[:, None, :] + weight.log()).logsumexp(dim=-1)
    return torch.where(mask, denominator - shown, 0.0).sum(-1)


def decided_pairs(rank: Int[Tensor, " N"], prompt: Int[Tensor, " N"]) -> Pairs:
    """All pairs of answers to one prompt where the ranking says which is better."""
    better, worse = torch.nonzero(_same(prompt) & (rank[:, None] < rank), as_tuple=True)
    return Pairs(better, worse, prompt[better])


def tied_pairs(rank: Int[Tensor, " N"], prompt: Int[Tensor, " N"]) -> Pairs:
    """All pairs of answers to one prompt that share a rank, each pair once."""
    tied = (_same(prompt) & (rank[:, None] == rank)).triu(diagonal=1)
    first, second = torch.nonzero(tied, as_tuple=True)
    return Pairs(first, second, prompt[first])


def prompt_mean(
    x: Float[Tensor, " P"], prompt: Int[Tensor, " P"], *, prompts: int
) -> Float[Tensor, " B"]:
    """Mean of a loss per pair over the pairs of each prompt; 0 where a prompt has none."""
    pairs = torch.bincount(prompt, minlength=prompts).clamp(min=1)
    return x.new_zeros(prompts).index_add(0, prompt, x) / pairs


def all_pairs(
    scores: Float[Tensor, " N"], rank: Int[Tensor, " N"], prompt: Int[Tensor, " N"]
) -> Float[Tensor, " B"]:
    """−log σ(Δ), averaged over the decided pairs of each prompt (Ouyang et al., 2022, eq. 1).

    Prompts weigh the same however many answers they have; a prompt with nothing but ties is 0.
    """
    pairs = decided_pairs(rank, prompt)
    losses = bradley_terry(scores[pairs.better] - scores[pairs.worse])
    return prompt_mean(losses, pairs.prompt, prompts=int(prompt.max()) + 1)


def _same(prompt: Int[Tensor, " N"]) -> Bool[Tensor, "N N"]:
    return prompt[:, None] == prompt
