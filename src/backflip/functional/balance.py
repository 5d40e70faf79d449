"""Weights under which something no longer tells which answer people preferred."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from backflip.functional.statistics import Numbers

__all__ = ["balancing_weights", "effective_size"]

CLOSE = 1e-4
"""Weighted mean of a feature, in its own deviations, that counts as none."""


def balancing_weights(features: Numbers) -> Numbers | None:
    """[P] positive weights of mean 1 with Σ w·f = 0 for each column f of ``features``, [P, F].

    Of all such weights the nearest to equal ones, in relative entropy (Hainmueller, 2012): w ∝
    exp(−λ·f). A feature being what the preferred answer has more than the other, it is then as
    often, and as far, on the side of the other. With one feature of ±1 these are the inverse
    propensities. None where there are none, because some mixture of the columns never points the
    other way.
    """
    scale = np.sqrt((features**2).mean(0))
    used = features[:, scale > 0] / scale[scale > 0]
    if not used.shape[1]:
        return np.ones(len(features))

    optimize: Any = import_module("scipy.optimize")

    def dual(slope: Numbers) -> tuple[float, Numbers]:
        tilt = -(used @ slope)
        total = float(np.logaddexp.reduce(tilt))
        return total, -(np.exp(tilt - total) @ used)

    found = optimize.minimize(dual, np.zeros(used.shape[1]), jac=True, method="BFGS")
    tilt = -(used @ np.asarray(found.x, np.float64))
    weight = np.exp(tilt - float(np.logaddexp.reduce(tilt)))
    if not np.isfinite(weight).all() or np.abs(weight @ used).max() > CLOSE:
        return None
    return weight * len(features)


def effective_size(weight: Numbers) -> float:
    """Equally weighted rows that would know as much: (Σ w)² / Σ w² (Kish, 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())
