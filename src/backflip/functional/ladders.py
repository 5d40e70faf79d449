"""Ladders of models from votes on pairs: strengths by maximum likelihood, ratings by Elo's updates,
and a test of whether the votes lie on a ladder at all.

P(i is preferred to j) = σ(θ_i − θ_j) (Bradley and Terry, 1952). A tie is half a win for each side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit  # pyright: ignore[reportMissingTypeStubs]

_sparse: Any = import_module("scipy.sparse")
_graphs: Any = import_module("scipy.sparse.csgraph")

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]

STEPS, CLOSE = 200, 1e-11
"""Newton steps at most, and the step in log odds at which θ is found."""
PRIOR = 0.5
"""Wins, and losses, that a model is lent where the votes leave θ without a limit."""
BLOCK = 1 << 22
"""Numbers held at once while resampling: 32 MB."""
MOST_UPDATES, FEWEST_ORDERS = 5_000_000, 20
"""Updates of Elo ratings over all orders, which are fewer where votes are many; and how few."""
ELO_K, ELO_START, ELO_SCALE = 4.0, 1000.0, 400.0
"""Chatbot Arena's update, start, and the points by which odds are 10 to 1 (Chiang et al., 2024)."""


@dataclass(frozen=True)
class Votes:
    """Verdicts on pairs of different models."""

    first: Whole
    """[N] Numbers of models, from 0."""
    second: Whole
    score: Numbers
    """[N] 1 where the first is preferred, 0 where the second, ½ for a tie."""
    cluster: Whole
    """[N] Numbers of prompts, from 0: votes on answers to one prompt are not independent."""
    models: int

    @cached_property
    def clusters(self) -> int:
        """Different prompts."""
        return int(self.cluster.max(initial=-1)) + 1

    @cached_property
    def pairs(self) -> Whole:
        """[K, 2] Pairs of models that met, the lower number first."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        keys = np.unique(low * self.models + high)
        return np.stack([keys // self.models, keys % self.models], axis=1)

    @cached_property
    def table(self) -> tuple[Any, Any]:
        """(Sparse [C, K] votes on each pair by prompt, those of them for the lower number)."""
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        keys = self.pairs[:, 0] * self.models + self.pairs[:, 1]
        place = np.searchsorted(keys, low * self.models + high)
        wins = np.where(self.first < self.second, self.score, 1 - self.score)
        shape = (self.clusters, len(keys))
        where = (self.cluster, place)
        one, other = ((values, where) for values in (np.ones(len(low)), wins))
        return _sparse.csr_matrix(one, shape), _sparse.csr_matrix(other, shape)

    def wins(self, weight: Numbers | None = None) -> Numbers:
        """[B, M, M] Wins of row over column, for each of B ways to weigh the prompts; or [M, M]."""
        played, lower = self.table
        weigh = np.ones((1, self.clusters)) if weight is None else weight
        met, won = np.asarray(weigh @ played), np.asarray(weigh @ lower)
        out = np.zeros((len(weigh), self.models, self.models))
        low, high = self.pairs.T
        out[:, low, high], out[:, high, low] = won, met - won
        return out[0] if weight is None else out


def components(wins: Numbers, *, strong: bool = False) -> Whole:
    """[M] The number of the group that each model is in.

    Models of one group are joined by votes; or, ``strong``, each has beaten each other by way of
    others, without which no finite θ is the likeliest (Ford, 1957).
    """
    kind = "strong" if strong else "weak"
    return np.asarray(
        _graphs.connected_components(_sparse.csr_matrix(wins > 0), connection=kind)[1], np.int64
    )


def bounded(wins: Numbers) -> bool:
    """Whether a finite θ is the likeliest: the models are one strong component."""
    return bool(components(wins, strong=True).max(initial=0) == 0)


def lent(wins: Numbers) -> Numbers:
    """[…, M, M] The votes and a prior: every model is lent ½ a win and ½ a loss, spread evenly over
    the others, so that θ is finite whatever the votes are.
    """
    models = wins.shape[-1]
    return wins + PRIOR / max(models - 1, 1) * (1 - np.eye(models))


def bradley_terry(wins: Numbers) -> Numbers:
    """[…, M] Likeliest θ, in nats, with mean 0, from wins of row over column […, M, M].

    Newton's method, its steps held to 1. Give ``lent`` wins where the votes are not ``bounded``.
    Raises ValueError where it does not converge, which only such votes make it do.
    """
    played = wins + np.swapaxes(wins, -1, -2)
    linalg: Any = np.linalg
    theta: Numbers = np.zeros(wins.shape[:-1])
    models = wins.shape[-1]
    for _ in range(STEPS):
        p = expit(theta[..., :, None] - theta[..., None, :])
        slope = (wins - played * p).sum(-1)
        weight = played * p * (1 - p)
        bend = weight.sum(-1)[..., None] * np.eye(models) - weight + 1 / models
        try:
            step: Any = linalg.solve(bend, slope[..., None])[..., 0]
        except np.linalg.LinAlgError:
            break
        longest = np.abs(step).max(-1, keepdims=True, initial=0.0)
        theta = theta + step / np.maximum(longest, 1.0)
        if (longest < CLOSE).all():
            return np.asarray(theta - theta.mean(-1, keepdims=True), np.float64)
    raise ValueError("no finite strengths are the likeliest: some models only won or only lost.")


def shares(theta: Numbers) -> Numbers:
    """[…, M] Strengths e^θ that sum to 1."""
    raised = np.exp(theta - theta.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float64)


def resamples(votes: Votes, *, draws: int, seed: int) -> Iterator[Numbers]:
    """[b, M, M] Wins in bootstrap samples of whole prompts, ``draws`` of them in blocks."""
    rng = np.random.default_rng(seed)
    size = max(1, BLOCK // max(votes.models**2, votes.clusters, 1))
    for start in range(0, draws, size):
        count = min(size, draws - start)
        even = np.full(votes.clusters, 1 / votes.clusters)
        yield votes.wins(rng.multinomial(votes.clusters, even, size=count).astype(np.float64))


def resampled(votes: Votes, *, draws: int = 1000, seed: int = 0) -> tuple[Numbers, int]:
    """([draws, M] θ in bootstrap samples of whole prompts, how many of them needed the prior).

    A sample in which a model only wins, only loses or does not appear has no likeliest θ; there
    the votes are ``lent``.
    """
    found: list[Numbers] = []
    held = 0
    for wins in resamples(votes, draws=draws, seed=seed):
        loose = np.array([not bounded(one) for one in wins])
        wins[loose] = lent(wins[loose])
        held += int(loose.sum())
        found.append(bradley_terry(wins))
    return np.concatenate(found) if found else np.zeros((0, votes.models)), held


def elo(
    first: Whole,
    second: Whole,
    score: Numbers,
    *,
    models: int,
    k: float = ELO_K,
    weight: Numbers | None = None,
) -> Numbers:
    """[B, M] Elo ratings after N votes in B orders (Elo, 1978), all [B, N].

    R_first += k (score − E), R_second −= k (score − E), E = 1/(1 + 10^((R_second − R_first)/400)).
    They depend on the order: average over several. ``weight`` 0 leaves a vote out.
    """
    orders, count = first.shape
    rating = np.full((orders, models), ELO_START)
    row = list(range(orders))
    scale = np.log(10) / ELO_SCALE
    step = np.full(first.shape, k) if weight is None else k * weight
    for t in range(count):
        a, b = first[:, t], second[:, t]
        gain = step[:, t] * (score[:, t] - expit(scale * (rating[row, a] - rating[row, b])))
        rating[row, a] += gain
        rating[row, b] -= gain
    return rating


def elo_shuffled(
    votes: Votes, *, orders: int = 200, seed: int = 0, resample: bool = False, k: float = ELO_K
) -> Numbers:
    """[orders, M] Elo ratings of the votes in random orders; of bootstrap samples of whole prompts
    where ``resample``.
    """
    rng = np.random.default_rng(seed)
    votes_each = max(len(votes.first), 1)
    orders = min(orders, max(FEWEST_ORDERS, MOST_UPDATES // votes_each))
    size = max(1, BLOCK // votes_each)
    parts = [
        _rated(votes, [_order(votes, rng, resample) for _ in range(min(size, orders - start))], k)
        for start in range(0, orders, size)
    ]
    return np.concatenate(parts)


def _rated(votes: Votes, rows: list[Whole], k: float) -> Numbers:
    """[B, M] Elo ratings of B sequences of votes, which need not be of one length."""
    longest = max((len(row) for row in rows), default=0)
    index = np.zeros((len(rows), longest), np.int64)
    weight = np.zeros((len(rows), longest))
    for place, row in enumerate(rows):
        index[place, : len(row)], weight[place, : len(row)] = row, 1.0
    taken: Any = (votes.first[index], votes.second[index], votes.score[index])
    return elo(*taken, models=votes.models, k=k, weight=weight)


def _order(votes: Votes, rng: np.random.Generator, resample: bool) -> Whole:
    if not resample:
        return rng.permutation(len(votes.first))
    times = np.bincount(rng.integers(votes.clusters, size=votes.clusters), minlength=votes.clusters)
    return rng.permutation(np.repeat(np.arange(len(votes.first)), times[votes.cluster]))


@dataclass(frozen=True)
class Transitivity:
    """Whether votes go round in circles more than a ladder with noise does."""

    statistic: float
    """Σ R²/V over pairs: R is votes beyond the ladder's, V their variance on the ladder."""
    p_value: float
    """Share of draws, of the ladder's own noise, whose statistic is as great."""
    draws: int
    loops: int
    """Pairs less models plus groups: independent circles. Without one nothing can be tested."""


def transitivity(votes: Votes, theta: Numbers, *, draws: int = 2000, seed: int = 0) -> Transitivity:
    """A score test of the ladder θ against circular preferences, by sign flips of prompts.

    At the likeliest θ the residual votes R of all of a model's pairs add up to 0: R has no part
    that any ladder could take up, so it flows in circles only (Jiang et al., 2011, call that part
    of a ranking its curl and harmonic flow). If the ladder holds, the residual of a prompt is as
    likely as its negative, so the signs of whole prompts are flipped by lot, what a new ladder
    would take up is projected away, and the statistic is computed again. p is never below
    1/(draws + 1).
    """
    played, lower = votes.table
    low, high = votes.pairs.T
    p = expit(theta[low] - theta[high])
    met = np.asarray(played.sum(0)).ravel()
    variance = met * p * (1 - p)
    loops = len(low) - votes.models + int(components(votes.wins()).max(initial=-1)) + 1
    if loops <= 0 or votes.clusters < 2:
        return Transitivity(0.0, 1.0, 0, max(loops, 0))
    residual: Any = _sparse.csr_matrix(lower - played.multiply(p))
    place = np.arange(len(low))
    signs_of = np.repeat((1.0, -1.0), len(low))
    where = (np.tile(place, 2), np.concatenate([low, high]))
    side: Any = _sparse.csr_matrix((signs_of, where), (len(low), votes.models))
    linalg: Any = np.linalg
    inverse: Numbers = linalg.pinv((side.T @ side.multiply(variance[:, None])).toarray())

    def statistic(flow: Numbers) -> Numbers:
        """[b] Of residuals by pair [b, K]."""
        taken: Any = side @ (inverse @ (side.T @ flow.T))
        circular: Numbers = flow - taken.T * variance
        return np.asarray((circular**2 / variance).sum(-1), np.float64)

    rng = np.random.default_rng(seed)
    seen = float(statistic(np.asarray(residual.sum(0)))[0])
    size, above = max(1, BLOCK // max(votes.clusters, len(low))), 0
    for start in range(0, draws, size):
        count = min(size, draws - start)
        signs = rng.choice((-1.0, 1.0), size=(count, votes.clusters))
        above += int((statistic(np.asarray(signs @ residual)) >= seen * (1 - 1e-12)).sum())
    return Transitivity(seen, (above + 1) / (draws + 1), draws, loops)


@dataclass(frozen=True)
class Circle:
    """Three models of which each is preferred to the next."""

    models: tuple[int, int, int]
    votes: tuple[int, int, int]
    """On each of the three pairs."""
    shares: tuple[float, float, float]
    """Of those votes, for the model that is named first."""


def circles(wins: Numbers, *, most: int = 5, fewest: float = 2.0) -> tuple[list[Circle], int, int]:
    """(The clearest circles of three, how many there are, triples that met in all three pairs).

    A circle is as clear as the smallest z of its three majorities. Pairs with fewer than
    ``fewest`` votes, and even ones, are left out.
    """
    met = wins + wins.T
    ahead = np.divide(wins - wins.T, np.sqrt(np.maximum(met, 1.0)))
    ahead[met < fewest] = 0.0
    beats, linked = (ahead > 0).astype(np.float64), (ahead != 0).astype(np.float64)
    triples = round(float(np.trace(linked @ linked @ linked)) / 6)
    number = round(float(np.trace(beats @ beats @ beats)) / 3)
    found: list[tuple[float, tuple[int, int, int]]] = []
    for i in range(len(wins)):
        after = np.flatnonzero(beats[i, i + 1 :]) + i + 1
        before = np.flatnonzero(beats[i + 1 :, i]) + i + 1
        ends = np.minimum(ahead[i, after][:, None], ahead[before, i][None, :])
        least = np.minimum(ends, ahead[np.ix_(after, before)])
        best = np.argsort(-least, axis=None, kind="stable")[:most]
        for j, k in zip(*np.unravel_index(best, least.shape), strict=True):
            if least[j, k] > 0:
                found.append((float(least[j, k]), (i, int(after[j]), int(before[k]))))
    found.sort(key=lambda one: -one[0])
    return [_circle(wins, met, trio) for _, trio in found[:most]], number, triples


def _circle(wins: Numbers, met: Numbers, trio: tuple[int, int, int]) -> Circle:
    i, j, k = trio
    sides = ((i, j), (j, k), (k, i))
    counts = tuple(int(met[side]) for side in sides)
    parts = tuple(float(wins[side] / met[side]) for side in sides)
    return Circle(trio, counts, parts)  # pyright: ignore[reportArgumentType]
