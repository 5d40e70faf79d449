"""Corrections of a sampler that is not the learner: weights of choices, by name."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

import torch

from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience, Scored
from backflip.functional import corrections
from backflip.functional.corrections import Corrected, sampler_log_ratio
from backflip.functional.kl import kl_k3
from backflip.functional.reductions import token_mean

__all__ = [
    "TIS",
    "Correction",
    "GeometricMask",
    "IcePop",
    "KLGate",
    "NoCorrection",
    "SequenceMask",
    "TVGate",
    "corrected",
    "taken_for_its_own",
]

Positive = Within(0.0, math.inf, "it bounds a ratio of probabilities", open=True)
Cap = Annotated[float, Within(1.0, math.inf, "below 1 it would cut equal probabilities")]
Delta = Annotated[float, Within(0.0, math.inf, "it is a divergence", open=True)]


@runtime_checkable
class Correction(Protocol):
    """Weights of choices by π_old over the sampler."""

    def __call__(self, scored: Scored) -> Corrected: ...


def log_ratio(scored: Scored) -> torch.Tensor:
    """Log π_old − log μ of each choice, [B, T]."""
    rollouts = scored.rollouts
    return sampler_log_ratio(scored.logp_old, rollouts.logp, rollouts.mask)


@dataclass(frozen=True, kw_only=True)
class NoCorrection:
    """Weight 1: the sampler is the learner, or taken for it."""

    def __call__(self, scored: Scored) -> Corrected:
        ones = torch.ones_like(scored.logp_old)
        return Corrected(ones, ones < 0)


@dataclass(frozen=True, kw_only=True)
class TIS:
    """Truncated importance sampling: the ratio of each choice, up to a cap."""

    cap: Annotated[Cap, Usual(2.0, 5.0, "2 (verl), 3 (TRL)")] = 2.0
    """Greatest weight."""

    def __call__(self, scored: Scored) -> Corrected:
        return corrections.truncated(log_ratio(scored), cap=self.cap)


@dataclass(frozen=True, kw_only=True)
class IcePop:
    """The ratio of each choice within two bounds; choices outside are dropped."""

    low: Annotated[float, Positive, Usual(0.2, 1.0, "0.5")] = 0.5
    """Least ratio that is kept."""
    high: Annotated[Cap, Usual(1.5, 10.0, "5")] = 5.0
    """Greatest."""

    def __call__(self, scored: Scored) -> Corrected:
        return corrections.icepop(log_ratio(scored), low=self.low, high=self.high)


@dataclass(frozen=True, kw_only=True)
class SequenceMask:
    """The ratio of the whole answer; answers above a cap are dropped."""

    cap: Annotated[Cap, Usual(2.0, 8.0, "2 to 8, 3 in TRL")] = 3.0
    """Greatest ratio that is kept."""

    def __call__(self, scored: Scored) -> Corrected:
        return corrections.sequence_mask(log_ratio(scored), scored.rollouts.mask, cap=self.cap)


@dataclass(frozen=True, kw_only=True)
class GeometricMask:
    """The ratio of each choice; answers whose mean ratio is outside of two bounds are dropped."""

    low: Annotated[float, Positive, Usual(0.9, 1.0, "0.99")] = 0.99
    """Least geometric mean that is kept."""
    high: Annotated[Cap, Usual(1.0001, 1.1, "1.001 to 1.01")] = 1.001
    """Greatest."""

    def __call__(self, scored: Scored) -> Corrected:
        bounds = {"low": self.low, "high": self.high}
        return corrections.geometric_mask(log_ratio(scored), scored.rollouts.mask, **bounds)


@dataclass(frozen=True, kw_only=True)
class TVGate:
    """The ratio of each choice; those whose probability moved by more than δ are dropped."""

    delta: Annotated[Delta, Usual(0.05, 0.3, "0.15 to 0.2")] = 0.15
    """Greatest |π_old − μ| that is kept."""
    whole_answers: bool = False
    """Judge answers by the mean over their choices, and drop them whole."""

    def __call__(self, scored: Scored) -> Corrected:
        return _gated(scored, self.delta, "tv", self.whole_answers)


@dataclass(frozen=True, kw_only=True)
class KLGate:
    """The ratio of each choice; answers whose mean binary KL is above δ are dropped."""

    delta: Annotated[Delta, Usual(1e-3, 0.1, "0.003 for answers, 0.05 for choices")] = 3e-3
    """Greatest KL(μ‖π_old) in nats, between the choice and all others, that is kept."""
    whole_answers: bool = True
    """Judge answers by the mean over their choices, as FlashREINFORCE does, not each choice."""

    def __call__(self, scored: Scored) -> Corrected:
        return _gated(scored, self.delta, "kl", self.whole_answers)


def _gated(scored: Scored, delta: float, divergence: str, whole_answers: bool) -> Corrected:
    s = scored
    return corrections.gated(
        s.logp_old,
        s.rollouts.logp,
        s.rollouts.mask,
        delta=delta,
        divergence=divergence,
        whole_answers=whole_answers,
    )


def taken_for_its_own(sampler: Any, correction: Correction) -> bool:
    """Whether a sampler's log-probabilities stand for the policy's, since nothing has moved.

    Not where a correction was chosen: then their difference is measured.
    """
    return getattr(sampler, "exact", False) and isinstance(correction, NoCorrection)


def corrected(
    experience: Experience, correction: Correction
) -> tuple[Experience, dict[str, float]]:
    """The experience with its choices weighed, and the numbers to watch.

    ``sampler_gap``: mean |log π_old − log μ| in nats a choice; ``sampler_kl``: KL(μ‖π_old) in nats
    a choice, by k3; ``correction_weight``: mean weight; ``correction_held``: share of choices that
    were cut or dropped; ``effective_share``: (Σw)² / (n·Σw²), the effective sample size of the
    weights as a share of the n choices. None of these, and nothing weighed, where the sampler's
    numbers are the policy's own.
    """
    s, mask = experience.scored, experience.scored.rollouts.mask
    if s.logp_old is s.rollouts.logp:
        return experience, {}
    weight, held = correction(s)
    apart = log_ratio(s)
    metrics = {
        "sampler_gap": token_mean(apart.abs(), mask).mean(),
        "sampler_kl": token_mean(kl_k3(torch.zeros_like(apart), apart), mask).mean(),
        "correction_weight": token_mean(weight, mask).mean(),
        "correction_held": token_mean(held.float(), mask).mean(),
        "effective_share": corrections.effective_share(weight, mask),
    }
    return dataclasses.replace(experience, weight=weight), metrics
