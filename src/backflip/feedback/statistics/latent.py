"""The model behind the gauges: choices from a latent quality, integrated out on a grid.

Rater k takes a of item i with log odds u = α_k θ_i + b_k · z, against b; a tie has weight ν_k
beside e^(u/2) and e^(−u/2) (Davidson, 1970). θ ~ N(0, 1) is summed over equal steps, where the
sum is as good as the integral (the integrand is smooth and dies out: Trefethen and Weideman,
2014). Parameters of a rater are (asinh α, b, log ν), [R, P]: asinh is nearly a logarithm for a
sharp rater, and lets α be negative for one who turns answers round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import block_diag, csr_matrix

from backflip.feedback.statistics.judgements import Floats, Ints, pairs

SLOPE = 0
"""Where asinh α stands among a rater's parameters; b follows, and log ν is last."""
STEP, WIDEST = 0.2, 5.0
"""Of the grid, in standard deviations of quality."""
GRID = np.arange(-WIDEST, WIDEST + STEP / 2, STEP)
LOG_WEIGHT = -(GRID**2) / 2 + np.log(STEP / np.sqrt(2 * np.pi))
ROWS = 8_192
"""Judgements worked on at once, times a grid of 51: 3 MB for each of some ten arrays."""
PRIOR_SLOPE, PRIOR_TIE = (float(np.arcsinh(2.0)), 1.0), (-2.0, 2.0)
"""Mean and standard deviation of asinh α, of log ν …"""
PRIOR_BIAS = 2.0
"""… and standard deviation of b, in log odds: next to nothing is known beforehand."""
LARGEST = 3000
"""Parameters, R·P, up to which the information of all raters is inverted at once (3 seconds)."""


@dataclass(frozen=True)
class Design:
    """Rows sorted by item."""

    item: Ints
    """[N] Rising."""
    rater: Ints
    value: Floats
    """[N] 1 for a, −1 for b, 0 a tie."""
    z: Floats
    """[N, D] What may sway the rater, 1 in favour of a."""
    raters: int
    ties: bool
    """Whether anybody called a tie; if not, ν is 0."""

    @classmethod
    def of(cls, item: Ints, rater: Ints, value: Floats, z: Floats, raters: int) -> Design:
        """Sort by item."""
        order = np.argsort(item, kind="stable")
        ties = bool(np.any(value == 0))
        return cls(item[order], rater[order], value[order], z[order], raters, ties)

    def start(self) -> Floats:
        """[R, P] A rater of the prior, without bias, with the project's share of ties."""
        at = np.zeros((self.raters, self.z.shape[1] + 2))
        at[:, SLOPE] = PRIOR_SLOPE[0]
        share = np.clip((self.value == 0).mean() if len(self.value) else 0.0, 1e-3, 0.9)
        at[:, -1] = np.log(2 * share / (1 - share)) if self.ties else 0.0
        return at

    def blocks(self) -> list[slice]:
        """Stretches of whole items, of about ``ROWS`` rows."""
        begin = np.flatnonzero(np.diff(self.item, prepend=-1))
        cuts = [0]
        for start in begin:
            if start - cuts[-1] >= ROWS:
                cuts.append(int(start))
        return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(self.item)], strict=True)]


@dataclass(frozen=True)
class _Cells:
    """One block on the grid: rows × Q."""

    log_p: Floats
    """Of what was said, given θ."""
    lean: Floats
    """P(a) − P(b)."""
    tie: Floats
    """P(tie)."""


def _cells(design: Design, rows: slice, x: Floats) -> _Cells:
    mine = x[design.rater[rows]]
    value = design.value[rows, None]
    pull = (mine[:, 1:-1] * design.z[rows]).sum(1)
    u = np.sinh(mine[:, SLOPE])[:, None] * GRID + pull[:, None]
    log_nu = mine[:, -1:] if design.ties else np.full((len(mine), 1), -np.inf)
    root = np.exp(-np.abs(u) / 2)
    tie = np.exp(log_nu) * root
    whole = 1 + root**2 + tie
    said = np.where(value == 0, log_nu if design.ties else 0.0, value * u / 2)
    lean = np.sign(u) * (1 - root**2) / whole
    return _Cells(said - np.abs(u) / 2 - np.log(whole), lean, tie / whole)


def _posterior(item: Ints, log_p: Floats) -> tuple[float, Floats]:
    """Log likelihood of a block in nats, and P(θ | all that was said of the row's item) [N, Q]."""
    begin = np.flatnonzero(np.diff(item, prepend=-1))
    joint = np.add.reduceat(log_p, begin, axis=0) + LOG_WEIGHT
    top = joint.max(1, keepdims=True)
    weight = np.exp(joint - top)
    total = weight.sum(1, keepdims=True)
    place = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(item)))
    return float((top + np.log(total)).sum()), (weight / total)[place]


def evaluate(design: Design, x: Floats) -> tuple[float, Floats]:
    """Log likelihood in nats, and its slope [R, P] (Fisher's identity)."""
    value, slope = 0.0, np.zeros_like(x)
    for rows in design.blocks():
        cells = _cells(design, rows, x)
        nats, weight = _posterior(design.item[rows], cells.log_p)
        value += nats
        g = weight * (design.value[rows, None] - cells.lean) / 2
        t = (weight * ((design.value[rows, None] == 0) - cells.tie)).sum(1)
        who = design.rater[rows]
        parts = [
            np.cosh(x[who, SLOPE]) * (g @ GRID),
            *(design.z[rows] * g.sum(1)[:, None]).T,
            t if design.ties else np.zeros(len(who)),
        ]
        for p, part in enumerate(parts):
            slope[:, p] += np.bincount(who, weights=part, minlength=design.raters)
    return value, slope


def penalty(design: Design, x: Floats) -> tuple[float, Floats]:
    """Minus the log prior, and its slope."""
    centre, width = _prior(design)
    away = (x - centre) / width
    return float((away**2).sum() / 2), away / width


def _prior(design: Design) -> tuple[Floats, Floats]:
    biases = design.z.shape[1]
    tie = PRIOR_TIE if design.ties else (0.0, 1.0)
    centre = np.array([PRIOR_SLOPE[0], *[0.0] * biases, tie[0]])
    return centre, np.array([PRIOR_SLOPE[1], *[PRIOR_BIAS] * biases, tie[1]])


def covariance(design: Design, x: Floats) -> Floats | csr_matrix:
    """[R·P, R·P] Inverse of the observed information and the prior's (Louis, 1982).

    Information of the data with θ known, less the variance, over what θ may be, of the score: that
    ties together the parameters of all raters who judged the same item. With more than ``LARGEST``
    parameters those ties are left out, and the matrix is sparse.
    """
    raters, size = x.shape
    own = np.zeros((raters, size, size))
    own[:, range(size), range(size)] = 1 / _prior(design)[1] ** 2
    across = np.zeros((raters, raters, size, size)) if raters * size <= LARGEST else None
    for rows in design.blocks():
        cells = _cells(design, rows, x)
        _, weight = _posterior(design.item[rows], cells.log_p)
        np.add.at(own, design.rater[rows], _known(design, rows, x, cells, weight))
        _take_missing(own, across, design, rows, x, cells, weight)
    if across is None:
        inverse = np.linalg.pinv((own + own.transpose(0, 2, 1)) / 2, hermitian=True)
        return csr_matrix(block_diag(inverse))
    across[range(raters), range(raters)] += own
    flat = across.transpose(0, 2, 1, 3).reshape(raters * size, raters * size)
    return np.asarray(np.linalg.pinv((flat + flat.T) / 2, hermitian=True), np.float64)


def _known(design: Design, rows: slice, x: Floats, cells: _Cells, weight: Floats) -> Floats:
    """[N, P, P] Minus the second derivatives with θ known, averaged over what θ may be."""
    who, z = design.rater[rows], design.z[rows]
    tie, lean = cells.tie, cells.lean
    bend = weight * (1 - tie - lean**2) / 4
    cross, own = -weight * lean * tie / 2, weight * tie * (1 - tie)
    steep = np.cosh(x[who, SLOPE])
    g = weight * (design.value[rows, None] - lean) / 2
    block = np.zeros((len(who), x.shape[1], x.shape[1]))
    block[:, 0, 0] = steep**2 * (bend @ GRID**2) - np.sinh(x[who, SLOPE]) * (g @ GRID)
    block[:, 0, 1:-1] = (steep * (bend @ GRID))[:, None] * z
    block[:, 1:-1, 0] = block[:, 0, 1:-1]
    block[:, 1:-1, 1:-1] = bend.sum(1)[:, None, None] * z[:, :, None] * z[:, None, :]
    if design.ties:
        block[:, 0, -1] = block[:, -1, 0] = steep * (cross @ GRID)
        block[:, 1:-1, -1] = block[:, -1, 1:-1] = cross.sum(1)[:, None] * z
        block[:, -1, -1] = own.sum(1)
    return block


def _take_missing(
    own: Floats,
    across: Floats | None,
    design: Design,
    rows: slice,
    x: Floats,
    cells: _Cells,
    weight: Floats,
) -> None:
    """Subtract the covariance of scores: of each judgement with itself, and of two of one item."""
    who = design.rater[rows]
    g = (design.value[rows, None] - cells.lean) / 2
    t = (design.value[rows, None] == 0) - cells.tie
    basis = np.stack([g * GRID, g, t if design.ties else np.zeros_like(t)], axis=1)
    basis -= np.einsum("naq,nq->na", basis, weight)[:, :, None]
    spread = np.zeros((len(who), x.shape[1], 3))
    spread[:, 0, 0] = np.cosh(x[who, SLOPE])
    spread[:, 1:-1, 1] = design.z[rows]
    spread[:, -1, 2] = 1.0

    def shared(a: Ints, b: Ints) -> Floats:
        inner = (basis[a] * weight[a][:, None, :]) @ basis[b].transpose(0, 2, 1)
        return spread[a] @ inner @ spread[b].transpose(0, 2, 1)

    every = np.arange(len(who))
    np.subtract.at(own, who, shared(every, every))
    if across is None:
        return
    met = pairs(design.item[rows], who)
    for start in range(0, len(met.left), ROWS // 4):
        a, b = met.left[start : start + ROWS // 4], met.right[start : start + ROWS // 4]
        block = shared(a, b)
        np.subtract.at(across, (who[a], who[b]), block)
        np.subtract.at(across, (who[b], who[a]), block.transpose(0, 2, 1))
