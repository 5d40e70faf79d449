"""Numbers of raters and items that suffice: by closed form, else by simulation.

The reward model of these sums is linear: it sees d features of an item, x ~ N(0, I), of the
margin m = √ρ w·x + √(1 − ρ) e. ρ is what the features can know, so that the best accuracy on gold
is 1 − arccos(√ρ)/π, its ceiling. Fitted to I items with the mean ȳ of n votes each, under the
prior that fits, its direction misses w by an angle φ, and

    tan²φ = (d − 1) (V + S sin²φ) / (I B²),   V = E[(ȳ − E[ȳ|x])²],   S = Var E[ȳ|x],
    accuracy = 1 − arccos(√ρ cos φ)/π,        B = E[∂E[ȳ|x] / ∂(w·x)].

With many items to a direction that is Huber's sandwich (1967); with few what the model has not
learnt yet is noise to it too, up to all of the votes' variance, V + S, which is what the mean of ±x
has. Within 2 points of experiments at two items a direction, within 1 at five.

For a neural reward model d is not a count of anything but the number that a pilot gives:
``dimensions_from_pilot`` finds it from one measured accuracy, and the law extrapolates. V falls
with n only by the noise of votes, not by what e hides, so a label spent on a new item is worth
more than one spent on an old item: more raters per item buy knowledge of the raters, and labels
to measure with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binom

from backflip.feedback.statistics.judgements import Floats
from backflip.feedback.statistics.simulate import (
    Asked,
    Items,
    Population,
    answers,
    assign,
    tie_weight,
    uniform,
)

NODES = 96
"""Of the Gauss-Hermite rule."""
SEARCH = 20_000_000
"""No answer above this many items."""


def majority_error(reliability: float, raters: int) -> float:
    """Chance that the majority of raters, each right with this chance, is wrong (Condorcet, 1785).

    A split vote is a coin.
    """
    wrong = float(binom.cdf((raters - 1) // 2, raters, reliability))
    return wrong + (
        float(binom.pmf(raters // 2, raters, reliability)) / 2 if raters % 2 == 0 else 0
    )


@dataclass(frozen=True)
class Learner:
    """A reward model, for the purpose of these sums."""

    dimensions: float | int
    """d, of its features; 2 or more."""
    ceiling: float = 0.95
    """Accuracy on gold with labels without end, above ½."""

    @property
    def known(self) -> float:
        """ρ, the share of the margin's variance that its features can explain."""
        return math.sin(math.pi * (self.ceiling - 0.5)) ** 2


def reward_accuracy(
    population: Population, learner: Learner, items: int, *, raters_per_item: int = 1
) -> float:
    """Accuracy on gold that the model reaches with this many items: the closed form.

    Sides are shuffled, so position bias is noise; tastes for length and lists are not in the
    formula: ``simulated_accuracy`` has them.
    """
    votes = _votes(population, learner, raters_per_item)
    across, told = learner.dimensions - 1, items * votes.pull**2
    half = (across * (votes.noise + votes.swing) - told) / 2
    square = (half + math.sqrt(half**2 + told * across * votes.noise)) / told
    return 1 - math.acos(math.sqrt(learner.known / (1 + square))) / math.pi


def items_for_accuracy(
    population: Population, learner: Learner, accuracy: float, *, raters_per_item: int = 1
) -> int | None:
    """The fewest items that reach this accuracy; None where it lies above the ceiling or out of
    reach.
    """
    cosine = (
        math.cos(math.pi * (1 - accuracy)) / math.sqrt(learner.known) if accuracy > 0.5 else 0.0
    )
    if cosine >= 1:
        return None
    if cosine <= 0:
        return 1
    needed = (learner.dimensions - 1) * _votes(population, learner, raters_per_item).needed(cosine)
    return math.ceil(needed) if needed < SEARCH else None


def dimensions_from_pilot(
    population: Population, ceiling: float, accuracy: float, items: int, *, raters_per_item: int = 1
) -> float:
    """The d with which the law goes through one measured accuracy on gold.

    Raises ValueError where the pilot beat the ceiling, or did no better than a coin.
    """
    if not 0.5 < accuracy < ceiling:
        raise ValueError(
            f"A pilot with accuracy {accuracy:.3f} says nothing about a model whose ceiling is "
            f"{ceiling:.3f}: it must lie between 0.5 and the ceiling."
        )
    learner = Learner(2.0, ceiling)
    cosine = math.cos(math.pi * (1 - accuracy)) / math.sqrt(learner.known)
    return 1 + items / _votes(population, learner, raters_per_item).needed(cosine)


@dataclass(frozen=True)
class _Votes:
    """Information of the mean vote of an item about w."""

    noise: float
    """V"""
    swing: float
    """S"""
    pull: float
    """B"""

    def needed(self, cosine: float) -> float:
        """Items for each direction across w until cos φ is reached."""
        sine2 = 1 - cosine**2
        return (self.noise + self.swing * sine2) * cosine**2 / (self.pull**2 * sine2)


def _votes(population: Population, learner: Learner, raters_per_item: int) -> _Votes:
    """Integrated over w·x and e; votes come from raters drawn at random."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    known = learner.known
    margin = math.sqrt(known) * nodes[:, None] + math.sqrt(1 - known) * nodes[None, :]
    step = 1e-4
    mean, square = _vote(population, margin)
    ahead, behind = (_vote(population, margin + d)[0] for d in (step, -step))
    of_votes = (square - mean**2) @ weights
    shown = mean @ weights
    hidden = (mean**2) @ weights - shown**2
    noise = float(weights @ (of_votes / raters_per_item + hidden))
    pull = float(weights @ (((ahead - behind) / (2 * step)) @ weights)) * math.sqrt(known)
    return _Votes(noise, float(weights @ (shown - 0.5) ** 2), max(pull, 1e-12))


def _vote(population: Population, margin: Floats) -> tuple[Floats, Floats]:
    """E[y] and E[y²] of a vote given the margin: 1 for a, ½ a tie; over raters and displayed
    sides.
    """
    mean, square = np.zeros_like(margin), np.zeros_like(margin)
    side, nu = logit(population.prefers_first), tie_weight(population.ties)
    for k in range(len(population)):
        for first in (-1, 1):
            half = np.abs(u := population.sharp[k] * margin + first * side[k]) / 2
            whole = 1 + np.exp(-2 * half) + nu[k] * np.exp(-half)
            a = np.where(u > 0, 1.0, np.exp(-2 * half)) / whole
            tie = nu[k] * np.exp(-half) / whole
            mean += a + tie / 2
            square += a + tie / 4
    many = 2 * len(population)
    return mean / many, square / many


def simulated_accuracy(
    population: Population,
    learner: Learner,
    items: int,
    *,
    raters_per_item: int = 1,
    seed: int = 0,
) -> float:
    """The same by experiment: raters with all their habits judge, and a linear model is fitted.

    One of its features is length, another is lists, so that it learns the raters' tastes with their
    judgement. Its prior has the spread that its weights have. ``dimensions`` is rounded.
    """
    rng = np.random.default_rng([seed, 3])
    d = max(2, round(learner.dimensions))
    x, w = rng.normal(size=(items, d)), rng.normal(size=d)
    w /= np.linalg.norm(w)
    margin = math.sqrt(learner.known) * (x @ w)
    margin += math.sqrt(1 - learner.known) * rng.normal(size=items)
    shown = Items(
        margin=margin,
        features={"length": 1000 * x[:, 0], "lists": np.where(np.abs(x[:, 1]) > 1, x[:, 1], 0.0)},
        contested=np.zeros(items, np.bool_),
        keys=np.arange(items),
    )
    people = replace(population, seed=population.seed + 7919 * seed)
    rater = assign(items, len(people), min(raters_per_item, len(people)), rng)
    item = np.repeat(np.arange(items), rater.shape[1])
    first = np.where(uniform(people.seed, 4, rater.ravel(), item, 0) < 0.5, 1.0, -1.0)
    asked = Asked(item, rater.ravel(), first, np.zeros(len(item)), np.zeros(len(item), np.int64))
    said = answers(people, shown, asked).reshape(rater.shape)
    slope = math.sqrt(learner.known) * max(abs(float(people.sharp.mean())), 0.01)
    found = _fit(x, (said.mean(1) + 1) / 2, ridge=d / slope**2 / rater.shape[1])
    cosine = float(found @ w) / max(float(np.linalg.norm(found)), 1e-12)
    return 1 - math.acos(np.clip(math.sqrt(learner.known) * cosine, -1, 1)) / math.pi


def _fit(x: Floats, share: Floats, *, ridge: float) -> Floats:
    """Bradley-Terry's w, of item features x [I, d] and the share of votes for a [I]; Newton's
    method.
    """
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = expit(x @ w)
        curve = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(w))
        step = np.linalg.solve(curve, x.T @ (share - p) - ridge * w)
        w = w + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return w


@dataclass(frozen=True)
class Plan:
    """One way to spend: n raters on each of I items."""

    raters_per_item: int
    items: int
    labels: int
    hours: float
    """Of rating, all raters together."""
    label_error: float
    """Of the majority of an item's raters."""
    accuracy: float
    """Of the reward model on gold, by the closed form."""


def plans(
    population: Population,
    learner: Learner,
    accuracy: float,
    *,
    choices: tuple[int, ...] = (1, 2, 3, 5, 7),
) -> list[Plan]:
    """For each number of raters per item, the items that reach the accuracy; fewest labels first.

    Empty where the accuracy is above the model's ceiling.
    """
    found = list[Plan]()
    for raters in choices:
        items = items_for_accuracy(population, learner, accuracy, raters_per_item=raters)
        if items is None or raters > len(population):
            continue
        labels = items * raters
        found.append(
            Plan(
                raters_per_item=raters,
                items=items,
                labels=labels,
                hours=labels * float(population.seconds.mean()) / 3600,
                label_error=majority_error(float(population.reliability.mean()), raters),
                accuracy=reward_accuracy(population, learner, items, raters_per_item=raters),
            )
        )
    return sorted(found, key=lambda plan: plan.labels)
