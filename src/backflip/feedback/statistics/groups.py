"""Raters in groups: agreement within and between, what each prefers, and whom a majority erases.

A group is any attribute of raters (region, expertise, language). A majority vote is the larger
group's vote: where a smaller one wants something else, and wants it together, its labels are gone
from the training data without a trace. Noisy raters are overruled too, so ``erased`` asks for
both: overruled more often than any set of as many raters would be, and at one with each other
rather than with the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy.special import stdtrit

from backflip.feedback.statistics.drift import clustered_mean, clustered_share
from backflip.feedback.statistics.judgements import Flags, Floats, Ints, Judgements, pairs
from backflip.functional.statistics import FEWEST as ENOUGH
from backflip.functional.statistics import Interval

UNKNOWN = "unknown"
"""The group of raters who named none."""
FEWEST = 2
"""Members of a group on an item, from which on they have a majority of their own."""
MARGIN = 0.03
"""Share of its items beyond chance that a group must lose before a warning."""


def membership(judgements: Judgements, attribute: str) -> tuple[list[str], Ints]:
    """Names of the groups [G], sorted, and each rater's [R]."""
    named = [dict(g).get(attribute, UNKNOWN) for g in judgements.groups]
    names, of = np.unique(np.array(named, dtype=str), return_inverse=True)
    return [str(n) for n in names], of.astype(np.int64)


@dataclass(frozen=True)
class GroupPair:
    """Agreement of raters of two groups (or of one) on the items that both judged."""

    one: str
    other: str
    agreement: Interval
    """Chance that a rater of each said the same of one item; the interval is over items."""
    kappa: float
    """The same beyond chance: cross-replication reliability (Wong, Paritosh and Aroyo, 2021), α
    for one group with many items."""
    pairs: int


@dataclass(frozen=True)
class Preference:
    """Leaning of a group's choices; intervals are over raters of its kind."""

    group: str
    raters: int
    judgements: int
    leans: dict[str, Interval]
    """For "first" and each feature, share of choices for more of it. Ratings: their mean,
    "value"."""


@dataclass(frozen=True)
class Erased:
    """Share of items on which the majority of all overrules the majority of a group."""

    group: str
    items: int
    """On which the group and the whole have a majority each."""
    overruled: Ints
    """The items on which they differ, the most one-sided first."""
    share: float
    by_chance: float
    """Share for as many raters drawn at random, on average."""
    p_value: float
    """How often raters drawn at random are overruled as often or more."""
    own_agreement: Interval
    """Agreement within the group less its agreement with the others: above 0 it is of one mind."""
    warns: bool
    """Whether the majority vote erases the group: overruled beyond chance on thirty items or more,
    and of one mind."""

    @property
    def warning(self) -> str:
        """One sentence for the page; empty where there is nothing to warn of."""
        if not self.warns:
            return ""
        return (
            f"The majority overrules {self.group} on {self.share:.0%} of {self.items} items "
            f"({self.by_chance:.0%} by chance), and these raters agree with each other more than "
            "with the rest: a majority vote erases what they prefer. Export labels by group, or "
            "weigh groups equally."
        )


@dataclass(frozen=True)
class Groups:
    """All there is to say of one attribute."""

    attribute: str
    names: list[str]
    agreement: list[GroupPair]
    preferences: list[Preference]
    erased: list[Erased]
    """One for each group, of pairs and thumbs; empty with fewer than two groups."""


def groups(
    judgements: Judgements,
    attribute: str,
    *,
    level: float = 0.95,
    permutations: int = 400,
    most: int = 50_000,
    seed: int = 0,
) -> Groups:
    """Compare groups of raters. ``most`` judgements, of a random part of the items, are
    permuted.
    """
    said = judgements.sides().said()
    names, of = membership(said, attribute)
    rng = np.random.default_rng(seed)
    erased = list[Erased]()
    if len(names) > 1 and len(said) and np.all(np.isin(said.value, (-1, 0, 1))):
        erased = _erased(_part(said, most, rng), names, of, level, permutations, rng)
    return Groups(
        attribute=attribute,
        names=names,
        agreement=_agreement(said, names, of, level),
        preferences=[_preference(said, g, of == k, level) for k, g in enumerate(names)],
        erased=erased,
    )


def _part(said: Judgements, most: int, rng: np.random.Generator) -> Judgements:
    """All judgements of a random part of the items."""
    if len(said) <= most:
        return said
    keep = rng.random(said.items) < most / len(said)
    return said.where(keep[said.item])


def _agreement(said: Judgements, names: list[str], of: Ints, level: float) -> list[GroupPair]:
    met = pairs(said.item, said.rater)
    g, h = of[said.rater[met.left]], of[said.rater[met.right]]
    low, high = np.minimum(g, h), np.maximum(g, h)
    same = (said.value[met.left] == said.value[met.right]).astype(float)
    classes, code = said.classes()
    size = max(len(classes), 1)
    votes = np.bincount(of[said.rater] * size + code, minlength=len(names) * size)
    votes = votes.reshape(-1, size) / np.maximum(votes.reshape(-1, size).sum(1, keepdims=True), 1)
    found = list[GroupPair]()
    for a, b in combinations_with_replacement(range(len(names)), 2):
        rows = (low == a) & (high == b)
        agreed = clustered_share(same[rows], said.item[met.left][rows], level=level)
        chance = float(votes[a] @ votes[b])
        kappa = (agreed.estimate - chance) / (1 - chance) if chance < 1 else np.nan
        found.append(GroupPair(names[a], names[b], agreed, float(kappa), int(rows.sum())))
    return found


def _preference(said: Judgements, group: str, member: Flags, level: float) -> Preference:
    mine = said.where(member[said.rater])
    people = len(np.unique(mine.rater))
    if not said.paired:
        leans = {"value": clustered_mean(mine.value, mine.rater, level=level)}
        return Preference(group, people, len(mine), leans)
    more = {"first": mine.value * mine.first}
    more |= {f: mine.value * np.sign(x[mine.item]) for f, x in mine.features.items()}
    leans = {
        f: clustered_share((x[x != 0] + 1) / 2, mine.rater[x != 0], level=level)
        for f, x in more.items()
    }
    return Preference(group, people, len(mine), leans)


def _erased(
    said: Judgements,
    names: list[str],
    of: Ints,
    level: float,
    permutations: int,
    rng: np.random.Generator,
) -> list[Erased]:
    size = len(names)
    items, place = np.unique(said.item, return_inverse=True)
    tally = _Tally(place, said.rater, said.value, len(items), size)
    lost, both = tally.overruled(of)
    observed = lost.sum(0) / np.maximum(both.sum(0), 1)
    active = np.unique(said.rater)
    drawn = np.zeros((permutations, size))
    for n in range(permutations):
        shuffled = of.copy()
        shuffled[active] = of[rng.permutation(active)]
        wrong, compared = tally.overruled(shuffled)
        drawn[n] = wrong.sum(0) / np.maximum(compared.sum(0), 1)
    p_value = ((drawn >= observed - 1e-12).sum(0) + 1) / (permutations + 1)
    chance = drawn.mean(0)
    found = list[Erased]()
    for k, name in enumerate(names):
        own = _of_one_mind(said, of == k, level)
        sure = p_value[k] <= max(0.05 / size, 2 / (permutations + 1)) and both[:, k].sum() >= ENOUGH
        found.append(
            Erased(
                group=name,
                items=int(both[:, k].sum()),
                overruled=items[tally.worst(of, lost, k)],
                share=float(observed[k]),
                by_chance=float(chance[k]),
                p_value=float(p_value[k]),
                own_agreement=own,
                warns=bool(sure and observed[k] - chance[k] > MARGIN and own.low > 0),
            )
        )
    return found


@dataclass(frozen=True)
class _Tally:
    item: Ints
    rater: Ints
    value: Floats
    items: int
    groups: int

    def votes(self, of: Ints) -> tuple[Floats, Ints]:
        """[I, G] Votes for a less votes for b, and votes."""
        cell = self.item * self.groups + of[self.rater]
        many = self.items * self.groups
        balance = np.bincount(cell, weights=self.value, minlength=many).astype(np.float64)
        count = np.bincount(cell, minlength=many)
        return balance.reshape(-1, self.groups), count.reshape(-1, self.groups)

    def overruled(self, of: Ints) -> tuple[Flags, Flags]:
        """[I, G] Whether the group's majority is not the majority, and whether both have one."""
        balance, count = self.votes(of)
        whole = np.sign(balance.sum(1, keepdims=True))
        alone = count.sum(1, keepdims=True) == count
        both = (count >= FEWEST) & (balance != 0) & (whole != 0) & ~alone
        return both & (np.sign(balance) != whole), both

    def worst(self, of: Ints, lost: Flags, group: int) -> Ints:
        balance, _ = self.votes(of)
        items = np.flatnonzero(lost[:, group])
        return items[np.argsort(-np.abs(balance[items, group]), kind="stable")]


def _of_one_mind(said: Judgements, member: Flags, level: float) -> Interval:
    """Agreement within less agreement across, over items."""
    met = pairs(said.item, said.rater)
    one, other = member[said.rater[met.left]], member[said.rater[met.right]]
    some = one | other
    same = (said.value[met.left] == said.value[met.right]).astype(float)[some]
    within = (one & other)[some].astype(float)
    item = said.item[met.left][some]
    n, m = within.sum(), (1 - within).sum()
    if n < FEWEST or m < FEWEST:
        return Interval(np.nan, -np.inf, np.inf, level)
    inside, across = (same * within).sum() / n, (same * (1 - within)).sum() / m
    pull = within * (same - inside) / n - (1 - within) * (same - across) / m
    error = float(np.sqrt((np.bincount(item, weights=pull) ** 2).sum()))
    many = len(np.unique(item))
    reach = float(stdtrit(max(many - 1, 1), (1 + level) / 2)) * error
    gap = float(inside - across)
    return Interval(gap, gap - reach, gap + reach, level, many)
