"""A ladder of models from anybody's votes on pairs: Bradley and Terry's, and Elo's beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, final

import numpy as np

from backflip.evaluation.suites.base import Suite, Table
from backflip.evaluation.suites.statistic import Measure, Rows, Statistic
from backflip.evaluation.suites.subject import Subject
from backflip.evaluation.votes import read_votes, votes_of
from backflip.functional import ladders
from backflip.functional.ladders import Circle, Transitivity, Votes
from backflip.functional.statistics import FEWEST, Interval
from backflip.monitor.text import Estimate, ranged, share
from backflip.text import counted

__all__ = ["Fitted", "Ladder", "Rung", "fitted"]

POINTS = ladders.ELO_SCALE / math.log(10)
"""Points of a rating in a nat of θ."""
TAIL = 0.025
SURE = 0.05
"""p below which votes are said to go in circles."""


@dataclass(frozen=True)
class Rung:
    """One model's place."""

    model: str
    group: int
    """Models that no votes join are of different groups, and cannot be compared."""
    rank: int
    """Within its group, from 1."""
    ranks: tuple[int, int]
    """Ranks that 95 of 100 bootstrap samples give."""
    strength: float
    """e^θ; they sum to 1 within a group. ``nan`` where the votes set no limit."""
    rating: Interval
    """1000 + 400 θ / ln 10, θ with mean 0 within the group."""
    elo: Interval
    """Elo's rating, a mean over orders."""
    wins: int
    ties: int
    losses: int

    @property
    def votes(self) -> int:
        """Votes that the model took part in."""
        return self.wins + self.ties + self.losses

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        names = ("model", "group", "rank", "wins", "ties", "losses")
        return {
            **{name: getattr(self, name) for name in names},
            "rank_low": self.ranks[0],
            "rank_high": self.ranks[1],
            "strength": self.strength,
            **self.rating.named("rating"),
            **self.elo.named("elo"),
        }


@dataclass(frozen=True)
class Fitted:
    """A ladder, from the top."""

    rungs: Sequence[Rung]
    groups: int
    unbounded: Sequence[Sequence[str]]
    """By group that has no likeliest strengths: parts of it, the stronger first, of which one never
    loses to the next."""
    held: int
    """Bootstrap samples that needed the prior."""
    draws: int
    transitivity: Transitivity
    circles: Sequence[tuple[tuple[str, str, str], Circle]]
    circular: int
    triples: int


def fitted(votes: Votes, models: Sequence[str], *, draws: int = 1000, seed: int = 0) -> Fitted:
    """The ladder of these votes, every group of models by itself, with intervals by prompt."""
    wins = votes.wins()
    group = ladders.components(wins)
    theta, unbounded = np.zeros(len(models)), list[list[str]]()
    sampled, held = np.zeros((draws, len(models))), 0
    for number in range(int(group.max(initial=-1)) + 1):
        members = np.flatnonzero(group == number)
        some = _of(votes, members)
        own = some.wins()
        if not ladders.bounded(own):
            unbounded.append([models[int(m)] for m in members[_loose(own)]])
            own = ladders.lent(own)
        theta[members] = ladders.bradley_terry(own)
        found, more = ladders.resampled(some, draws=draws, seed=seed)
        sampled[:, members], held = found, max(held, more)
    elo = ladders.elo_shuffled(votes, seed=seed)
    elo_sampled = ladders.elo_shuffled(votes, seed=seed, resample=True)
    few = votes.clusters < 2
    rungs = [
        _rung(votes, models, m, group, theta, sampled, (elo[:, m], elo_sampled[:, m]), few=few)
        for m in range(len(models))
    ]
    rungs.sort(key=lambda rung: (rung.group, rung.rank, rung.model))
    clear, circular, triples = ladders.circles(wins)
    named = [((models[c.models[0]], models[c.models[1]], models[c.models[2]]), c) for c in clear]
    circle = ladders.transitivity(votes, theta, seed=seed)
    return Fitted(
        rungs, int(group.max(initial=-1)) + 1, unbounded, held, draws, circle, named, circular,
        triples,
    )  # fmt: skip


def _of(votes: Votes, members: Any) -> Votes:
    """The votes among some models, these numbered anew and prompts too."""
    place = np.full(votes.models, -1)
    place[members] = np.arange(len(members))
    rows = place[votes.first] >= 0
    cluster = np.unique(votes.cluster[rows], return_inverse=True)[1]
    first, second = place[votes.first[rows]], place[votes.second[rows]]
    return Votes(first, second, votes.score[rows], cluster, len(members))


def _loose(wins: Any) -> Any:
    """Models outside of the greatest part in which each has beaten each by way of others."""
    part = ladders.components(wins, strong=True)
    return part != np.bincount(part).argmax()


def _rung(
    votes: Votes, models: Sequence[str], m: int, group: Any, theta: Any, sampled: Any,
    elo: tuple[Any, Any], *, few: bool,
) -> Rung:  # fmt: skip
    mates = group == group[m]
    above = 1 + int((theta[mates] > theta[m] + 1e-9).sum())
    placed = 1 + (sampled[:, mates] > sampled[:, [m]] + 1e-9).sum(1)
    low, high = (int(rank) for rank in np.quantile(placed, (TAIL, 1 - TAIL), method="nearest"))
    mine = np.where(votes.first == m, votes.score, 1 - votes.score)
    mine = mine[(votes.first == m) | (votes.second == m)]
    met = len(np.unique(votes.cluster[(votes.first == m) | (votes.second == m)]))
    rating = ladders.ELO_START + POINTS * theta[m]
    return Rung(
        models[m], int(group[m]), above, (1, int(mates.sum())) if few else (low, high),
        float(ladders.shares(theta[mates])[np.flatnonzero(mates) == m][0]),
        _interval(rating, ladders.ELO_START + POINTS * sampled[:, m], met, few=few),
        _interval(float(elo[0].mean()), elo[1], met, few=few),
        int((mine == 1).sum()), int((mine == 0.5).sum()), int((mine == 0).sum()),
    )  # fmt: skip


def _interval(value: float, sampled: Any, prompts: int, *, few: bool) -> Interval:
    """Percentiles of bootstrap samples; with one prompt nothing is known of the spread."""
    ends = (-math.inf, math.inf) if few else np.quantile(sampled, (TAIL, 1 - TAIL))
    return Interval(float(value), float(ends[0]), float(ends[1]), 0.95, prompts)


@final
@dataclass(frozen=True, kw_only=True)
class Ladder(Suite):
    """Models in order, by votes on pairs of their answers."""

    title: ClassVar[str] = "A ladder of models from votes on pairs"
    asks: ClassVar[bool] = False

    winner: str = ""
    """Column with the verdict of one judge, in place of winner or votes."""
    draws: int = 1000
    """Bootstrap samples of whole prompts."""
    seed: int = 0
    """Of the bootstrap and of Elo's orders."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A row for each vote."""
        found, notes = read_votes(data, winner=self.winner)
        subject.notes += notes
        return found

    def fit(self, rows: Rows) -> Fitted:
        """The ladder of these rows."""
        columns = ("group", "first", "second", "score")
        return _remembered(
            tuple(tuple(row[name] for name in columns) for row in rows), self.draws, self.seed
        )

    def statistics(self, rows: Rows) -> list[Statistic]:
        """What holds of all votes together; the models are in the table."""
        prompts = len({row["group"] for row in rows})
        p = self.fit(rows).transitivity.p_value
        told = Interval(p, math.nan, math.nan, 0.95, prompts)
        return [
            Statistic("ties", "votes that are ties", "tie"),
            Statistic("first", "votes for the answer named first, a tie half", "score"),
            Statistic(
                "transitivity_p", "p of a ladder, against preferences in circles",
                kind="number", interval=lambda _: told, paired=False,
            ),
        ]  # fmt: skip

    def tables(self, rows: Rows) -> list[Table]:
        """The ladder itself."""
        found = self.fit(rows)
        heads = ("#rank", "model", "#strength", "#rating", "95 % interval", "#Elo", "#votes")
        several = found.groups > 1
        lines = [
            (
                f"{rung.rank} ({rung.ranks[0]}–{rung.ranks[1]})",
                f"{rung.model} (group {rung.group + 1})" if several else rung.model,
                f"{rung.strength:.4f}",
                *ranged(Estimate.of(rung.rating), digits=0),
                f"{rung.elo.estimate:.0f}",
                str(rung.votes),
            )
            for rung in found.rungs
        ]
        records = [rung.to_json() for rung in found.rungs]
        drawn = [
            Measure(Statistic(rung.model, rung.model, kind="number"), _above(rung.rating))
            for rung in found.rungs
        ]
        title = "Ladder: ranks with their range; drawn is the rating less 1000"
        return [Table("ladder", title, heads, lines, records, drawn)]

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        """The findings in words."""
        del measures
        found = self.fit(rows)
        prompts = len({row["group"] for row in rows})
        said = [f"{counted(len(rows), 'vote')} on {counted(prompts, 'prompt')}."]
        if prompts < FEWEST:
            said.append(
                f"Intervals go by prompt, and {counted(prompts, 'prompt')} "
                f"{'is' if prompts == 1 else 'are'} too few to tell how other prompts would rank."
            )
        return [*said, *_about_groups(found), *_about_single(found), *_about_circles(found)]


def _above(rating: Interval) -> Interval:
    """A rating as points above the mean of its group."""
    value, low, high = (x - ladders.ELO_START for x in (rating.estimate, rating.low, rating.high))
    return Interval(value, low, high, rating.level, rating.units)


@lru_cache(maxsize=2)
def _remembered(rows: tuple[tuple[Any, ...], ...], draws: int, seed: int) -> Fitted:
    """The ladder of votes; the numbers, the table and the sentences of a report all ask for it."""
    columns = ("group", "first", "second", "score")
    votes, models = votes_of([dict(zip(columns, row, strict=True)) for row in rows])
    return fitted(votes, models, draws=draws, seed=seed)


def _about_groups(found: Fitted) -> list[str]:
    said: list[str] = []
    if found.groups > 1:
        said.append(
            f"The votes fall into {found.groups} groups of models that never met: ratings of "
            "different groups cannot be compared."
        )
    said += [
        f"{_listed(loose)}: wins between them and others go one way only, so the votes set no "
        "limit to how far apart they are. Every model of the group is lent half a win and half "
        "a loss, spread over the others, and all of its ratings rest on that."
        for loose in found.unbounded
    ]
    if found.held and not found.unbounded:
        said.append(
            f"{found.held} of {found.draws} bootstrap samples leave a model without a win or "
            "without a loss; there the same is lent, so that the ends of intervals depend on it."
        )
    return said


def _about_single(found: Fitted) -> list[str]:
    single = [rung.model for rung in found.rungs if rung.votes == 1]
    few = counted(len(single), "model stands", "models stand")
    return [f"{few} on a single vote: {_listed(single)}."] if single else []


def _about_circles(found: Fitted) -> list[str]:
    test = found.transitivity
    if not test.draws:
        return ["Whether the votes go in circles cannot be tested: the pairs that met form none."]
    p = f"p = {test.p_value:.3g}, {test.draws} sign flips by prompt"
    if test.p_value >= SURE:
        return [f"Nothing speaks against a ladder: circles are no more than chance gives ({p})."]
    said = f"The votes go in circles more than a ladder with chance would ({p})"
    if not found.circles:
        return [f"{said}, though not in any three models."]
    names, clear = found.circles[0]
    links = [
        f"{names[i]} over {names[(i + 1) % 3]} in {share(clear.shares[i], digits=0)} of "
        f"{counted(clear.votes[i], 'vote')}"
        for i in range(3)
    ]
    return [
        f"{said}: no ladder holds all that they say. Circular triples of models: {found.circular} "
        f"of {found.triples}; clearest: {', '.join(links)}."
    ]


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
