"""Who deserves the score: advantage estimators in time. Those over siblings: ``group_credit``.

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
    lam: float | Float[Tensor, " B"] = 0.95,
) -> Float[Tensor, "B T"]:
    """Generalised advantage estimation (Schulman et al., 2016, eq. 16).

    A_t = δ_t + γλ A_{t+1}   where   δ_t = r_t + γ V_{t+1} − V_t

    ``lam`` is one number, or one for each row (VAPO's grows with the length of the answer).
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


def step_gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    states: Bool[Tensor, "B T"],
    *,
    gamma: float = 1.0,
    lam: float | Float[Tensor, " B"] = 0.95,
) -> Float[Tensor, "B T"]:
    """GAE over steps: each lasts from one of ``states`` to the next and is one action.

    Its reward is the sum over its choices, and all of them share its advantage (VinePPO:
    Kazemnejad et al., 2024, §4, with λ = 0). Where every choice is a state this is ``gae``.
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    begins = mask & (states | (steps == first_choice(mask)[:, None]))
    step = latest(begins)
    paid = torch.zeros_like(rewards).scatter_add(1, step, torch.where(mask, rewards, 0.0))
    advantages = gae(paid, values, begins, gamma=gamma, lam=lam)
    return torch.where(mask, advantages.gather(1, step), 0.0)


def latest(marked: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Index of the last marked place up to each; 0 before the first."""
    steps = torch.arange(marked.shape[1], device=marked.device)
    return torch.where(marked, steps, 0).cummax(1).values


def length_adaptive_lam(mask: Bool[Tensor, "B T"], *, alpha: float = 0.05) -> Float[Tensor, " B"]:
    """λ = 1 − 1/(α·n) for an answer of n choices, 0 up to n = 1/α (VAPO: Yue et al., 2025).

    The weights of GAE then add up to α·n: the longer an answer, the more of what followed counts.
    """
    lengths = mask.sum(-1).clamp(min=1)
    return (1 - 1 / (alpha * lengths)).clamp(min=0.0)


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


def whiten(
    x: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, shift_mean: bool = True
) -> Float[Tensor, "B T"]:
    """Unit variance over the choices (no correction), and zero mean; zero elsewhere.

    With ``shift_mean`` False the mean stays where it was: rewards are whitened so, because their
    sign says something (Ziegler et al., 2019). Numbers that are all the same are left with their
    mean alone. Whiten the whole batch once, never a micro-batch.
    """
    chosen = x[mask]
    mean = chosen.double().mean().to(x.dtype)  # equal numbers have just that mean
    std = ((chosen - mean) ** 2).mean().sqrt()
    noise = NOISE * chosen.abs().mean()
    white = torch.where(std > noise, (x - mean) / std, 0.0)
    return torch.where(mask, white if shift_mean else white + mean, 0.0)
