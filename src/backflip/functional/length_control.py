"""Win rates that length cannot buy (Dubois et al., 2024, arXiv:2404.04475), AlpacaEval 2's.

P(model's answer is preferred to the baseline's on instruction i) = σ(θ + φ x_i + ψ γ_i), where
x_i = tanh(Δ_i / std Δ), Δ the baseline's length less the model's, and γ_i is how much harder
instruction i is for the baseline than for others, one number for all models. The length-controlled
win rate is that model's mean with x = 0. At the baseline itself all three are 0.

The published fits are made with two models beside each, built to game length, whose answers lie on
a hub, and with an L1 penalty. Here φ and ψ have a normal prior instead, from the coefficients of
many models, which keeps a model whose lengths say little from being blamed for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit  # pyright: ignore[reportMissingTypeStubs]

Numbers = NDArray[np.float64]
Data = NDArray[Any]

RIDGE = 0.2
"""Precision of the prior of a difficulty: the best of three on 27 models of AlpacaEval 2."""
STEPS, CLOSE = 100, 1e-10
TURN = 1e-3
"""Change of difficulties below which turns of a joint fit end."""
KNOWN_TO = 0.01
"""Points to which published length-controlled win rates are taken as known."""


@dataclass(frozen=True)
class Coefficients:
    """One model's θ, φ and ψ."""

    theta: float
    """Log odds against the baseline on an instruction of difficulty 0, lengths alike."""
    phi: float
    """What length is worth: below 0 the judge likes the longer answer."""
    psi: float
    """What difficulty is worth."""


@dataclass(frozen=True)
class Prior:
    """What φ and ψ are among models: mean and standard deviation."""

    phi: tuple[float, float]
    psi: tuple[float, float]

    @staticmethod
    def of(fits: Sequence[Coefficients]) -> Prior:
        """By the median and the interquartile range, which a few models that game a judge do not
        move.
        """
        return Prior(*(_spread([getattr(fit, name) for fit in fits]) for name in ("phi", "psi")))


def _spread(values: list[float]) -> tuple[float, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(middle), max(float(high - low) / 1.349, 1e-3)


ALONE = Prior(phi=(0.0, 0.5), psi=(1.0, 0.3))
"""For one model by itself: its lengths are confounded with its quality, so φ is held near 0."""
JOINT = Prior(phi=(0.0, 1.0), psi=(1.0, 0.3))
"""For several models that are fitted together. Widths of both are the best of three on 25 models of
AlpacaEval 2, where they lower the mean error from 7.0 to 3.3, and from 1.3 to 1.1 points."""


def win_rate(preference: Data) -> float:
    """Mean of preferences 0 to 1, NaN left out, in percent."""
    return 100 * float(np.nanmean(np.asarray(preference, np.float64)))


def length_feature(baseline: Data, model: Data) -> Numbers:
    """[N] tanh(Δ/std Δ) of lengths in characters, Δ = baseline − model; 0 where Δ never varies.

    The spread is that of a sample, with N − 1, and Δ is not centred.
    """
    delta = np.asarray(baseline, np.float64) - np.asarray(model, np.float64)
    spread = float(delta.std(ddof=1)) if len(delta) > 1 else 0.0
    return np.tanh(delta / spread) if spread > 0 else np.zeros(len(delta))


def fit_logistic(
    x: Numbers,
    target: Numbers,
    *,
    weight: Numbers | None = None,
    centre: Numbers | float = 0.0,
    precision: Numbers | float = 0.0,
    offset: Numbers | float = 0.0,
) -> Numbers:
    """[P] Coefficients of a logistic regression on soft targets [N], x [N, P], by Newton's method.

    Minimises Σ w·cross-entropy + ½ Σ precision (β − centre)². A direction in which nothing is known
    stays where it begins, at the centre. Steps are halved until the loss falls.
    """
    rows, size = x.shape
    w = np.ones(rows) if weight is None else weight
    middle = np.broadcast_to(np.asarray(centre, np.float64), (size,)).astype(np.float64)
    stiff = np.broadcast_to(np.asarray(precision, np.float64), (size,))

    def loss(beta: Numbers) -> float:
        u = x @ beta + offset
        return float(
            (w * (np.logaddexp(0, u) - target * u)).sum() + (stiff * (beta - middle) ** 2).sum() / 2
        )

    linalg: Any = np.linalg
    beta, now = middle, loss(middle)
    for _ in range(STEPS):
        p = expit(x @ beta + offset)
        slope: Numbers = x.T @ (w * (target - p)) - stiff * (beta - middle)
        bend = x.T @ ((w * p * (1 - p))[:, None] * x) + np.diag(stiff)
        step: Numbers = linalg.pinv(bend, hermitian=True) @ slope
        scale = 1.0
        while loss(beta + scale * step) > now and scale > CLOSE:
            scale /= 2
        beta = beta + scale * step
        now = loss(beta)
        if float(np.abs(scale * step).max(initial=0.0)) < CLOSE:
            break
    return beta


def difficulties(
    preference: Numbers,
    feature: Numbers,
    fits: Sequence[Coefficients],
    *,
    ridge: float = RIDGE,
    anchors: Sequence[tuple[Coefficients, float]] = (),
) -> Numbers:
    """[I] γ of each instruction, from M models' preferences [M, I] and their coefficients.

    Each γ is the mode of a posterior with prior N(0, 1/ridge). ``anchors`` are further models with
    their published length-controlled win rates in percent: γ moves, as little as its posterior
    allows, to where they come out right.

    Args:
        preference: 0 to 1, NaN where a model was not judged.
        feature: x.
        fits: coefficients of the M models.
        ridge: precision of the prior.
        anchors: coefficients and win rates of models whose preferences are not at hand.

    """
    theta, phi, psi = (
        np.array([getattr(fit, name) for fit in fits])[:, None] for name in ("theta", "phi", "psi")
    )
    known = np.isfinite(preference)
    said, x = np.where(known, preference, 0.5), np.where(known, feature, 0.0)
    gamma, bend = np.zeros(preference.shape[1]), np.full(preference.shape[1], ridge)
    for _ in range(STEPS):
        p = expit(theta + phi * x + psi * gamma)
        slope = (known * psi * (said - p)).sum(0) - ridge * gamma
        bend = (known * psi**2 * p * (1 - p)).sum(0) + ridge
        step = np.clip(slope / bend, -1.0, 1.0)
        gamma = gamma + step
        if float(np.abs(step).max(initial=0.0)) < CLOSE:
            break
    return _anchored(gamma, bend, anchors) if anchors else gamma


def _anchored(
    gamma: Numbers, bend: Numbers, anchors: Sequence[tuple[Coefficients, float]]
) -> Numbers:
    """γ, with posterior precision ``bend``, given that the anchors' win rates are known too.

    Linearised again and again (Gauss and Newton); a step that fits no better ends it.
    """
    theta, psi = (np.array([getattr(a, n) for a, _ in anchors])[:, None] for n in ("theta", "psi"))
    rates = np.array([rate for _, rate in anchors]) / 100
    noise = (KNOWN_TO / 100) ** 2 * np.eye(len(anchors))

    def miss(at: Numbers) -> Numbers:
        return rates - expit(theta + psi * at).mean(1)

    linalg: Any = np.linalg
    now = gamma
    for _ in range(STEPS):
        p = expit(theta + psi * now)
        slope = p * (1 - p) * psi / p.shape[1]
        lean = slope / bend
        toward: Numbers = gamma + lean.T @ linalg.solve(
            lean @ slope.T + noise, miss(now) + slope @ (now - gamma)
        )
        if not float(np.abs(miss(toward)).sum()) < float(np.abs(miss(now)).sum()) * (1 - 1e-6):
            break
        now = toward
    return now


def refit(
    preference: Numbers,
    feature: Numbers,
    gamma: Numbers,
    *,
    prior: Prior | None = None,
) -> Coefficients:
    """One model's coefficients from its own preferences [I], with known difficulties.

    Maximum likelihood; with a ``prior`` on φ and ψ the mode of the posterior.
    """
    known = np.isfinite(preference)
    x = np.stack([np.ones(known.sum()), feature[known], gamma[known]], axis=1)
    centre = np.zeros(3) if prior is None else np.array([0.0, prior.phi[0], prior.psi[0]])
    stiff = (
        np.zeros(3) if prior is None else np.array([0.0, prior.phi[1] ** -2, prior.psi[1] ** -2])
    )
    theta, phi, psi = fit_logistic(x, preference[known], centre=centre, precision=stiff)
    return Coefficients(float(theta), float(phi), float(psi))


def length_controlled(fit: Coefficients, gamma: Numbers) -> float:
    """Win rate in percent with lengths alike: 100 · mean σ(θ + ψ γ)."""
    return 100 * float(expit(fit.theta + fit.psi * gamma).mean())


def fit_jointly(
    preference: Numbers,
    feature: Numbers,
    *,
    ridge: float = 1.0,
    rounds: int = 50,
    prior: Prior | None = JOINT,
) -> tuple[list[Coefficients], Numbers]:
    """(Coefficients of M models, γ [I]) from their preferences alone, [M, I], in turns.

    With one model γ would take up all of its noise: it is left at 0. γ is scaled to a standard
    deviation of 1 between turns, ψ the other way, because only their product is determined.
    """
    models, instructions = preference.shape
    gamma = np.zeros(instructions)
    fits = [refit(p, x, gamma, prior=prior) for p, x in zip(preference, feature, strict=True)]
    if models < 2:
        return fits, gamma
    fits = [Coefficients(fit.theta, fit.phi, 1.0) for fit in fits]
    for _ in range(rounds):
        before = gamma
        gamma = difficulties(preference, feature, fits, ridge=ridge)
        gamma = (gamma - gamma.mean()) / max(float(gamma.std()), CLOSE)
        fits = [refit(p, x, gamma, prior=prior) for p, x in zip(preference, feature, strict=True)]
        if float(np.abs(gamma - before).max()) < TURN:
            break
    return fits, gamma


def far(raw: float, controlled: float) -> bool:
    """Whether the two, in percent, are so far apart that the fit may have failed.

    By more than 10 points and more than a quarter of the way to 0 or to 100 (alpaca_eval 0.6).
    """
    too_low = controlled < min(raw - raw / 4, raw - 10)
    return too_low or controlled > max(raw + (100 - raw) / 4, raw + 10)
