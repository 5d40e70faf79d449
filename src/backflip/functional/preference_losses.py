"""Losses of policies on comparisons without a reward model, per pair or answer, not reduced.

The log-ratio of an answer y is u = log π(y|x)/π_ref(y|x), in nats, summed over its own tokens;
β·u is its implicit reward (Rafailov et al., 2023). Of a pair, ``better`` is what was preferred and
``worse`` the other; ``delta`` is the difference of the two. What needs no reference takes
log-likelihoods in the place of log-ratios. ``soft`` is P(the label is right).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor

from backflip.functional.reward_losses import bradley_terry

HIGHEST_EXPONENT = 40.0
"""No ratio of probabilities counts as more than e to this; beyond, it has no gradient."""


def dpo(
    delta: Float[Tensor, "*shape"],
    *,
    beta: float,
    margin: Float[Tensor, "*shape"] | float = 0.0,
    soft: Float[Tensor, "*shape"] | float = 1.0,
) -> Float[Tensor, "*shape"]:
    """−log σ(β·delta − margin): Bradley-Terry on implicit rewards (Rafailov et al., 2023, eq. 7).

    ``soft`` is learnt by cross-entropy: cDPO where it is 1 − ε for all pairs (Mitchell, 2023; TRL's
    DPO ignores its label smoothing). ``margin`` is ODPO's offset (Amini et al., 2024). With
    differences of log-ratios per token it is length-normalised DPO (Tülu 3: Lambert et al., 2024),
    with differences of log-likelihoods CPO (Xu et al., 2024).
    """
    return bradley_terry(beta * delta, margin, soft)


def robust_dpo(
    delta: Float[Tensor, "*shape"], *, beta: float, noise: float
) -> Float[Tensor, "*shape"]:
    """[−(1 − ε)·log σ(β·delta) + ε·log σ(−β·delta)] / (1 − 2ε), where ε of the labels are wrong.

    Its mean over noisy labels is DPO's over right ones, which cDPO's is not (rDPO: Chowdhury et
    al., 2024, §3.1). Needs ε < ½; single terms may be negative.
    """
    as_labelled, turned_round = nnf.softplus(-beta * delta), nnf.softplus(beta * delta)
    return ((1 - noise) * as_labelled - noise * turned_round) / (1 - 2 * noise)


def length_regularised_dpo(
    delta: Float[Tensor, "*shape"],
    longer_by: Float[Tensor, "*shape"],
    *,
    beta: float,
    alpha: float,
    soft: Float[Tensor, "*shape"] | float = 1.0,
) -> Float[Tensor, "*shape"]:
    """−log σ(β·delta + α·(|y_w| − |y_l|)) (R-DPO: Park et al., 2024).

    The policy that is best for r(y) − α·|y| has r = β·u + α·|y|: part of the label is explained by
    the length of the answer, in tokens, and only the rest is learnt. With the other sign, which
    some print, longer answers would have to win by more.
    """
    return bradley_terry(beta * delta + alpha * longer_by, 0.0, soft)


def ipo(
    delta: Float[Tensor, "*shape"],
    *,
    beta: float,
    soft: Float[Tensor, "*shape"] | float = 1.0,
) -> Float[Tensor, "*shape"]:
    """(delta − (2·soft − 1)/(2β))²: a margin to hit, not to exceed (Azar et al., 2023, eq. 17).

    β is the paper's τ. Eq. 17 has ``delta`` summed over tokens; its authors advised to take means
    over tokens, as TRL does. A soft label draws the target towards zero, the mean of both orders.
    """
    return (delta - (2 * soft - 1) / (2 * beta)) ** 2


def psi_po(
    delta: Float[Tensor, "*shape"],
    soft: Float[Tensor, "*shape"],
    *,
    beta: float,
    psi: Callable[[Tensor], Tensor],
) -> Float[Tensor, "*shape"]:
    """(delta − [Ψ(p) − Ψ(1 − p)]/(2β))², with p = ``soft``, P(the better wins) (Azar et al., 2023).

    Their eq. 6 asks for E_y' Ψ(P(y beats y')) under a leash β (their τ), which gives an answer the
    log-ratio E_y' Ψ(P(y beats y'))/β and a constant. Where y' is one of the two answers of the
    pair, either as likely, the target here is the difference of two of those. Ψ = identity is IPO;
    Ψ = logit has DPO's optimum, and none for a label that is certain.
    """
    return (delta - (psi(soft) - psi(1 - soft)) / (2 * beta)) ** 2


def sppo(
    ratio: Float[Tensor, "*shape"], win: Float[Tensor, "*shape"], *, beta: float
) -> Float[Tensor, "*shape"]:
    """(u − η·(P(y beats π) − ½))² of an answer, η = 1/β (SPPO: Wu et al., 2024, §4).

    ``win`` of 1 and 0 for the two answers of a pair is TRL's ``sppo_hard``, the sum of both.
    """
    return (ratio - (win - 0.5) / beta) ** 2


def reverse_kl_slope(ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The f′ of KL(π‖π_ref), f = r·log r: log r, so that f-DPO is DPO (constants left out)."""
    return ratio


def forward_kl_slope(ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The f′ of KL(π_ref‖π), f = −log r: −1/r, and 1 more so that it starts from 0."""
    return -torch.expm1((-ratio).clamp(max=HIGHEST_EXPONENT))


def js_slope(ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The f′ of twice Jensen-Shannon's divergence: log(2r/(1 + r)), at most log 2."""
    return math.log(2) + nnf.logsigmoid(ratio)


def alpha_slope(ratio: Float[Tensor, "*shape"], *, alpha: float) -> Float[Tensor, "*shape"]:
    """The f′ of the α-divergence, 0 < α < 1: (1 − r^−α)/α; α → 0 is reverse, α → 1 forward KL.

    f-DPO's α (Wang et al., 2023, table 1). TRL's is 1 − α: the two agree at ½ alone.
    """
    return -torch.expm1((-alpha * ratio).clamp(max=HIGHEST_EXPONENT)) / alpha


def f_dpo(
    slope_better: Float[Tensor, "*shape"],
    slope_worse: Float[Tensor, "*shape"],
    *,
    beta: float,
    soft: Float[Tensor, "*shape"] | float = 1.0,
) -> Float[Tensor, "*shape"]:
    """−log σ(β·f′(r_w) − β·f′(r_l)), r = π/π_ref, for a leash of β·D_f (Wang et al., 2023).

    The slopes f′ are those of ``reverse_kl_slope`` and its neighbours.
    """
    return bradley_terry(beta * (slope_better - slope_worse), 0.0, soft)


def apo_zero(
    better: Float[Tensor, "*shape"], worse: Float[Tensor, "*shape"], *, beta: float
) -> Float[Tensor, "*shape"]:
    """[1 − σ(β·u_w)] + σ(β·u_l): the better answer up, the worse one down (D'Oosterlinck, 2024).

    The constant 1, which the paper leaves out, makes the least value 0.
    """
    return (-beta * better).sigmoid() + (beta * worse).sigmoid()


def apo_down(
    better: Float[Tensor, "*shape"], worse: Float[Tensor, "*shape"], *, beta: float
) -> Float[Tensor, "*shape"]:
    """[σ(β·u_w)] + [1 − σ(β·(u_w − u_l))]: both down, the worse one more (D'Oosterlinck, 2024).

    For a policy that is already better than the data. The constant 1 makes the least value 0.
    """
    return (beta * better).sigmoid() + (-beta * (better - worse)).sigmoid()


def exo_pair(
    delta: Float[Tensor, "*shape"], *, beta: float, smoothing: float
) -> Float[Tensor, "*shape"]:
    """KL(p‖q) of p = (σ(β·delta), σ(−β·delta)) to the labels q = (1 − ε, ε) (EXO: Ji et al., 2024).

    The other way round it is cDPO's cross-entropy. At ε = 0 it is infinite.
    """
    right, wrong = nnf.logsigmoid(beta * delta), nnf.logsigmoid(-beta * delta)
    from_right = right.exp() * (right - math.log1p(-smoothing))
    return from_right + wrong.exp() * (wrong - math.log(smoothing))


def nca_pair(
    better: Float[Tensor, "*shape"], worse: Float[Tensor, "*shape"], *, beta: float
) -> Float[Tensor, "*shape"]:
    """−log σ(β·u_w) − ½·log σ(−β·u_w) − ½·log σ(−β·u_l) (NCA: Chen et al., 2024, §4.1).

    Answers against noise from the reference: it holds the likelihood of the better one up.
    """
    noise = nnf.softplus(beta * better) + nnf.softplus(beta * worse)
    return nnf.softplus(-beta * better) + noise / 2


def bco_pair(
    better: Float[Tensor, "*shape"],
    worse: Float[Tensor, "*shape"],
    *,
    beta: float,
    shift: float = 0.0,
) -> Float[Tensor, "*shape"]:
    """−log σ(β·u_w − δ) − log σ(−(β·u_l − δ)): good or bad, each for itself (Jung et al., 2024).

    δ is half way between the mean rewards of both kinds (eq. 7); TRL's ``bco_pair`` has none.
    """
    return nnf.softplus(shift - beta * better) + nnf.softplus(beta * worse - shift)


def hinge(x: Float[Tensor, "*shape"], *, margin: float = 1.0) -> Float[Tensor, "*shape"]:
    """max(0, δ − x): silent once the margin is reached.

    SLiC-HF's calibration loss where x is a difference of log-likelihoods (Zhao et al., 2023, §2),
    RSO's where it is β·delta (Liu et al., 2023).
    """
    return (margin - x).relu()


def simpo(
    delta: Float[Tensor, "*shape"],
    *,
    beta: float,
    gamma: float,
    soft: Float[Tensor, "*shape"] | float = 1.0,
) -> Float[Tensor, "*shape"]:
    """−log σ(β·delta − γ), delta in nats a token (SimPO: Meng et al., 2024, eq. 6).

    ``soft`` is learnt as the cross-entropy of P(better wins) = σ(β·delta − γ), their eq. 5.
    """
    return bradley_terry(beta * delta - gamma, 0.0, soft)


def log_odds(mean_logp: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(p/(1 − p)), p = exp(log-likelihood per token): a geometric mean (Hong et al., 2024)."""
    logp = mean_logp.clamp(max=-1e-6)
    return logp - torch.log(-torch.expm1(logp))


def orpo(
    better: Float[Tensor, "*shape"], worse: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """−log σ(log odds ratio) of log-likelihoods in nats a token (ORPO: Hong et al., 2024, eq. 7).

    ORPO adds λ times this to the negative log-likelihood of the better answer (eq. 6).
    """
    return nnf.softplus(log_odds(worse) - log_odds(better))
