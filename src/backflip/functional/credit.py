"""Who deserves the score: advantage estimators.

``t`` counts the policy's own choices. Steps where ``mask`` is False (tool output, padding) are
skipped whatever they hold, and the last choice ends the episode.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.functional.kl import kl_k1

NOISE = 1e-6
"""A spread below this share of the largest number is rounding: dividing by it makes up a signal."""


def last_choice(mask: Bool[Tensor, "B T"]) -> Int[Tensor, " B"]:
    """Index of each row's last choice; −1 where it has none."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    return nnf.pad(torch.where(mask, steps, -1), (1, 0), value=-1).amax(dim=1)


def first_choice(mask: Bool[Tensor, "B T"]) -> Int[Tensor, " B"]:
    """Index of each row's first choice; T where it has none."""
    width = mask.shape[1]
    steps = torch.arange(width, device=mask.device)
    return nnf.pad(torch.where(mask, steps, width), (0, 1), value=width).amin(dim=1)


def at_end(scores: Float[Tensor, " B"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Score on the last choice, 0 elsewhere. A row without a choice gets nothing."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(steps == last_choice(mask)[:, None], scores[:, None], 0.0)


def token_rewards(
    rewards: Float[Tensor, "B T"],
    logp: Float[Tensor, "B T"],
    logp_ref: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    kl_coef: float,
) -> Float[Tensor, "B T"]:
    """Reward of each choice minus ``kl_coef``·k1 (Ziegler et al., 2019, eq. 2); 0 elsewhere."""
    return torch.where(mask, rewards - kl_coef * kl_k1(logp, logp_ref), 0.0)


def gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    bootstrap: Float[Tensor, " B"] | None = None,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> Float[Tensor, "B T"]:
    """Generalised advantage estimation (Schulman et al., 2016, eq. 16).

    A_t = δ_t + γλ A_{t+1}   where   δ_t = r_t + γ V_{t+1} − V_t

    ``bootstrap`` is V after the last choice, for episodes that a clock cut off although they
    would have gone on (control); zero by default, because the score of an answer already judges
    it as it stands, cut off or not. What V should have predicted is A + V, before any whitening.
    """
    next_value = rewards.new_zeros(len(rewards)) if bootstrap is None else bootstrap
    next_advantage = rewards.new_zeros(len(rewards))
    advantages: list[Tensor] = []
    for t in reversed(range(rewards.shape[1])):
        chosen = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        advantages.append(torch.where(chosen, advantage, 0.0))
        next_advantage = torch.where(chosen, advantage, next_advantage)
        next_value = torch.where(chosen, values[:, t], next_value)
    return torch.stack(advantages[::-1], dim=1) if advantages else torch.zeros_like(rewards)


def returns_to_go(
    rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, gamma: float = 1.0
) -> Float[Tensor, "B T"]:
    """Discounted reward from each choice onward: GAE with λ = 1 and nothing expected."""
    return gae(rewards, torch.zeros_like(rewards), mask, gamma=gamma, lam=1.0)


def one_step(
    scores: Float[Tensor, " B"], values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Score − V(prompt) on every choice: the whole answer is one action.

    V(prompt) is the value before the first choice; a row without a choice gets zeros.
    """
    first = first_choice(mask).clamp(max=mask.shape[1] - 1)
    expected = values.gather(1, first[:, None])
    return torch.where(mask, scores[:, None] - expected, 0.0)


def group_relative(
    scores: Float[Tensor, " B"], group: Int[Tensor, " B"], *, divide_by_std: bool = True
) -> Float[Tensor, " B"]:
    """How much better each answer is than its siblings (GRPO: Shao et al., 2024, §4.1.2).

    Divides by the standard deviation of the group itself (no correction). Without
    ``divide_by_std``, Dr. GRPO (Liu et al., 2025). A group whose answers all score the same
    teaches nothing: its advantages are exactly zero.
    """
    centred = scores - _group_mean(scores, group)[0]
    if not divide_by_std:
        return centred
    std = _group_mean(centred**2, group)[0].sqrt()
    noise = NOISE * _group_mean(scores.abs(), group)[0]
    return torch.where(std > noise, centred / std, 0.0)


def leave_one_out(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Each answer's score minus the mean score of its siblings (RLOO: Ahmadian et al., 2024).

    Raises ValueError where a prompt has a single answer: there is nothing to compare it with.
    """
    mean, size = _group_mean(scores, group)
    if (size < 2).any():
        raise ValueError(
            f"leave_one_out needs at least 2 answers per prompt; "
            f"prompt {int(group[size < 2][0])} has 1. Set sampler.group_size to 2 or more, "
            "or use reinforce_pp, which needs no siblings."
        )
    return (scores - mean) * size / (size - 1)


def whiten(
    x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, shift_mean: bool = True
) -> Float[Tensor, "B T"]:
    """Unit variance over the choices (no correction), and zero mean; zero elsewhere.

    With ``shift_mean`` False the mean stays where it was: rewards are whitened so, because their
    sign says something (Ziegler et al., 2019). Numbers that are all the same are left with their
    mean alone. Whiten the whole batch once, never a micro-batch.
    """
    chosen = x[mask]
    mean = chosen.mean()
    std = ((chosen - mean) ** 2).mean().sqrt()
    noise = NOISE * chosen.abs().mean()
    white = torch.where(std > noise, (x - mean) / std, 0.0)
    return torch.where(mask, white if shift_mean else white + mean, 0.0)


def _group_mean(
    x: Float[Tensor, " B"], group: Int[Tensor, " B"]
) -> tuple[Float[Tensor, " B"], Int[Tensor, " B"]]:
    """Per row, the mean of ``x`` over its group and the group's size; any integers will do."""
    ordered, order = group.sort()
    number = nnf.pad((ordered.diff() != 0).long().cumsum(0), (1, 0))
    row = torch.empty_like(order).scatter_(0, order, number)
    sizes = torch.bincount(row)
    return (x.new_zeros(len(sizes)).index_add(0, row, x) / sizes)[row], sizes[row]
