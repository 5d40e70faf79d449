"""Labels and raters' habits of error together, by EM (Dawid and Skene, 1979).

Each rater has a confusion matrix π: what they say, given what is true. Differences from the paper:

* Sides are recoded to the item's own order before anything else (``Judgements`` does it). With
  sides as displayed the classes would be exchangeable, and π would mix errors with position bias.
* Of pairs, π is mirrored: to take b for a is as likely as a for b, since which answer is called a
  is arbitrary. That halves what must be learnt from a rater's labels. Sides are as common as one
  another, too: else a file that names the better answer first, as most do, would outvote raters
  ("it is always a, and they often err"). A tie is a class of its own.
* Nothing holds that class to what raters call a tie. Where ties are rare EM fills it with hard
  pairs, on which as many say a as b: every sixth pair of ten raters, and the majority was then more
  often right. So where raters call what is in it a tie less often than either side, it is no tie
  but an open question, and in labels and posteriors half of it goes to each side.
* Each rater is thought to have made ``smoothing`` judgements of each class like the average rater,
  so that ten labels do not make a perfect rater.

One step is two products with a sparse matrix [I, R·C] of who said what: a million judgements by a
hundred raters take a quarter of a minute, error bars included.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit, logsumexp

from backflip.feedback.statistics.aggregate import Labels, likeliest, wilson_bounds
from backflip.feedback.statistics.judgements import Flags, Floats, Ints, Judgements

TINY = 1e-10
"""Stands for a probability of 0 inside a logarithm."""


@dataclass(frozen=True)
class DawidSkene:
    """Result of EM."""

    labels: Labels
    """Error bars hold what is not known of the raters; a posterior of 0.9 from raters with ten
    labels each is worth less than one from raters with a thousand."""
    prior: Floats
    """[C] How common each class is."""
    confusion: Floats
    """[R, C, C] P(says the column's class | the row's is true)."""
    split: bool
    """Whether the class between the sides is no tie but pairs on which raters are split."""
    reliability: Floats
    """[R] Chance to be right; of pairs where one is better, and a tie is half right. Not a number
    for raters who said nothing."""
    low: Floats
    """[R] 95 % interval of the reliability, taking the labels as they were found."""
    high: Floats
    """[R]"""
    log_likelihood: float
    """Nats, of all judgements."""
    steps: int


@dataclass(frozen=True)
class _Said:
    """Judgements by rater and value, ready for products."""

    matrix: csr_matrix
    """[I, R·C] 1 where rater r gave class c."""
    raters: int
    size: int
    mirrored: bool
    smoothing: float

    def counts(self, posterior: Floats) -> Floats:
        """[R, C true, C said] Expected judgements."""
        seen = np.asarray(self.matrix.T @ posterior).reshape(self.raters, self.size, self.size)
        seen = seen.transpose(0, 2, 1)
        return (seen + seen[:, ::-1, ::-1]) / 2 if self.mirrored else seen

    def split(self, posterior: Floats) -> bool:
        """Whether raters call what is between the sides a tie less often than either side."""
        if not self.mirrored:
            return False
        side, tie, _ = self.counts(posterior).sum(0)[1]
        return bool(tie < side)

    def prior_counts(self, counts: Floats) -> Floats:
        """[C, C] The average rater's rows, as pseudo-counts."""
        pooled = counts.sum(0) + 1.0 / self.size
        return self.smoothing * pooled / pooled.sum(1, keepdims=True)

    def prior(self, common: Floats) -> Floats:
        """[C] How common classes are, from weights."""
        if self.mirrored:
            common = common + common[::-1]
        return common / max(common.sum(), TINY)

    def log_likelihood(self, confusion: Floats) -> Floats:
        """[I, C] Of what was said of an item, for each class that it may be."""
        habits = np.log(np.maximum(confusion, TINY)).transpose(0, 2, 1).reshape(-1, self.size)
        return np.asarray(self.matrix @ habits)


def dawid_skene(
    judgements: Judgements,
    *,
    smoothing: float = 4.0,
    mirrored: bool = True,
    steps: int = 200,
    tolerance: float = 1e-6,
    draws: int = 60,
    seed: int = 0,
) -> DawidSkene:
    """EM from the majority's shares, until the log likelihood per judgement rests.

    ``smoothing`` is in judgements, 0 for the paper's own estimate. ``mirrored`` holds for pairs
    alone. ``draws`` of labels and habits make the error bars.
    """
    said = judgements.said()
    classes, code = said.classes()
    size = max(len(classes), 1)
    where = (said.item, said.rater * size + code)
    matrix = csr_matrix(
        (np.ones(len(said)), where), shape=(said.items, said.raters * size), dtype=np.float64
    )
    who = _Said(matrix, said.raters, size, mirrored and said.paired, smoothing)
    judged = np.bincount(said.item, minlength=said.items)
    active = judged > 0
    shares = _shares(said, code, size)
    rest = tolerance * max(1, len(said))
    posterior, prior, confusion, value, step = _em(who, shares, active, steps, rest)
    split = who.split(posterior)
    halved = _no_tie(shares) if split else np.zeros(said.items, np.bool_)
    labels = _with_error_bars(who, posterior, halved, active, classes, judged, draws, seed)
    reliability, low, high = _reliability(said, who.counts(_halved(posterior, halved)))
    return DawidSkene(labels, prior, confusion, split, reliability, low, high, value, step)


def _em(
    who: _Said, posterior: Floats, active: Flags, steps: int, rest: float
) -> tuple[Floats, Floats, Floats, float, int]:
    """Posterior [I, C], prior [C], confusion [R, C, C], log likelihood and steps taken, from the
    first posterior until the log likelihood moves by no more than ``rest``.
    """
    confusion, prior = np.zeros((who.raters, who.size, who.size)), np.zeros(who.size)
    last, value, step = -np.inf, -np.inf, 0
    for step in range(1, steps + 1):  # noqa: B007 - reported below
        prior, confusion = _maximise(who, posterior, active)
        joint = who.log_likelihood(confusion) + np.log(np.maximum(prior, TINY))
        evidence = np.asarray(logsumexp(joint, axis=1, keepdims=True))
        posterior = np.exp(joint - evidence)
        value = float(evidence[active].sum())
        if abs(value - last) <= rest:
            break
        last = value
    return posterior, prior, confusion, value, step


def posterior_of(prior: Floats, habits: Floats, said: Ints, *, split: bool = False) -> Floats:
    """[C] P(class) of one item, given the class [N] that each of N raters said, and their rows of
    ``confusion`` [N, C, C]: one E step. ``split`` as it was found.
    """
    heard = habits[np.arange(len(said)), :, said]
    joint = np.log(np.maximum(prior, TINY)) + np.log(np.maximum(heard, TINY)).sum(0)
    posterior = np.exp(joint - logsumexp(joint))[None]
    if not split:
        return posterior[0]
    votes = np.bincount(said, minlength=len(prior))[None]
    return _halved(posterior, _no_tie(votes))[0]


def _no_tie(votes: Floats | Ints) -> Flags:
    """[I] Whether an item's raters call it a tie less often than one of the sides; votes [I, 3]."""
    return votes[:, 1] < votes[:, [0, 2]].max(1)


def _halved(posterior: Floats, halved: Flags) -> Floats:
    """Mass between the sides, half to each, in rows where it is no tie."""
    if not halved.any():
        return posterior
    b, between, a = posterior.T
    half = np.where(halved, between / 2, 0.0)
    return np.stack([b + half, between - 2 * half, a + half], axis=1)


def _shares(said: Judgements, code: Ints, size: int) -> Floats:
    votes = np.bincount(said.item * size + code, minlength=said.items * size).reshape(-1, size)
    return votes / np.maximum(votes.sum(1, keepdims=True), 1)


def _maximise(who: _Said, posterior: Floats, active: Flags) -> tuple[Floats, Floats]:
    """M: how common classes are, and what each rater says of each."""
    counts = who.counts(posterior)
    counts = np.maximum(counts + who.prior_counts(counts), TINY)
    confusion = counts / counts.sum(2, keepdims=True)
    return who.prior(posterior[active].sum(0)), confusion


def _with_error_bars(
    who: _Said,
    posterior: Floats,
    halved: Flags,
    active: Flags,
    classes: Floats,
    judged: Ints,
    draws: int,
    seed: int,
) -> Labels:
    """Gibbs sampling from EM's answer on: labels given habits, habits given labels.

    The bar is how far the log odds of the label stray from EM's: it holds both what is not known of
    the raters and what, for want of true labels, EM is too sure of.
    """
    rng = np.random.default_rng(seed)
    prior_counts = who.prior_counts(who.counts(posterior)) + TINY
    found, moved = _halved(posterior, halved), posterior
    best, drift = found.argmax(1)[:, None], np.zeros(len(posterior))
    centre = _odds(found, best)
    for _ in range(draws):
        below = moved.cumsum(1)[:, :-1] < rng.random((len(moved), 1))
        drawn = np.eye(who.size)[below.sum(1)] * active[:, None]
        habits = rng.standard_gamma(who.counts(drawn) + prior_counts)
        if who.mirrored:
            habits = (habits + habits[:, ::-1, ::-1]) / 2
        habits /= np.maximum(habits.sum(2, keepdims=True), TINY)
        common = who.prior(rng.dirichlet(drawn.sum(0) + 1.0))
        joint = who.log_likelihood(habits) + np.log(np.maximum(common, TINY))
        moved = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        drift += (_odds(_halved(moved, halved), best) - centre) ** 2
    reach = NormalDist().inv_cdf(0.975) * np.sqrt(drift / max(draws, 1))
    blank = np.where(active, 1.0, np.nan)
    shown = found * blank[:, None]
    low, high = expit(centre - reach) * blank, expit(centre + reach) * blank
    return Labels(classes, shown, likeliest(shown), low, high, judged)


def _odds(posterior: Floats, best: Ints) -> Floats:
    """Log odds of one class, within ±23."""
    p = np.clip(np.take_along_axis(posterior, best, 1)[:, 0], TINY, 1 - TINY)
    return np.log(p / (1 - p))


def _reliability(said: Judgements, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """[R] Share right of what counts, and Wilson's bounds, from expected counts [R, true, said]."""
    merit, truth = np.eye(counts.shape[1]), np.ones(counts.shape[1], np.bool_)
    if said.paired:
        side = np.sign(said.classes()[0])
        truth, merit[:, side == 0] = side != 0, 0.5
    n = counts[:, truth].sum((1, 2))
    right = (counts * merit)[:, truth].sum((1, 2))
    p = np.where(n > 0, right / np.maximum(n, TINY), np.nan)
    low, high = wilson_bounds(p, np.maximum(n, TINY))
    return p, low, high
