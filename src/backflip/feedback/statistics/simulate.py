"""A population of simulated raters with known habits: for tests, demos and planning.

Rater k takes a of item i, displayed on side s = ±1 (1: a first), with log odds

    u = α_k m_i + b_first s + b_longer Δlength + b_lists Δlists,

where m is the item's margin: how much better a really is, in standard deviations. A tie has
weight ν_k beside e^(u/2) and e^(−u/2) (Davidson, 1970). Habits are stated as what a person would
ask for: reliability as the share of items on which a rested rater without bias, asked for a
choice, agrees with gold; a bias as the probability of taking the longer of two equally good
answers; ties as P(tie) between equally good answers. Fatigue wears α down by e^(−fatigue · hours)
within a session.

Every number is drawn from a hash of (seed, rater, item, times asked), so an answer depends
neither on who else answers nor on the order in which a server hands out items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from backflip.feedback.statistics.gauges import Reference, contrasts
from backflip.feedback.statistics.judgements import Flags, Floats, Ints, Judgements

SESSION_HOURS, DAY = 2.0, 86_400.0
START = 1_767_250_800.0
"""When simulated projects begin: 1 January 2026, 7:00 UTC."""
STRENGTH_STEP = 1.5
"""Log odds by which a preference must be stronger to be called one level stronger."""
SPEED_SPREAD = 0.5
"""Standard deviation of log seconds."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Population:
    """R raters and their habits; each array has one number for each rater."""

    reliability: Floats
    """0 to 1, ½ is a coin. Above 0.99 counts as 0.99."""
    prefers_first: Floats
    """P(takes the answer displayed first | both equally good)."""
    prefers_longer: Floats
    """P(takes the longer one | equally good, longer by the r.m.s. difference)."""
    prefers_lists: Floats
    """P(takes the one with more list marks | equally good)."""
    ties: Floats
    """P(tie | equally good)."""
    fatigue: Floats
    """Per hour of a session."""
    seconds: Floats
    """Median per item."""
    dissents: Flags
    """Who wants the opposite on contested items: a group with a taste of its own."""
    seed: int = 0

    @classmethod
    def drawn(cls, raters: int, *, seed: int = 0, dissenting: float = 0.0) -> Population:
        """Raters such as one meets: reliability 0.5 to 0.97, most biases small, some not."""
        rng = np.random.default_rng(seed)
        spread = rng.permutation(np.linspace(0.5, 0.97, raters) if raters > 1 else np.array([0.8]))
        return cls(
            reliability=spread,
            prefers_first=expit(rng.normal(0.1, 0.3, raters)),
            prefers_longer=expit(rng.normal(0.3, 0.4, raters)),
            prefers_lists=expit(rng.normal(0.2, 0.3, raters)),
            ties=rng.uniform(0.0, 0.3, raters),
            fatigue=rng.uniform(0.0, 0.15, raters),
            seconds=np.exp(rng.normal(np.log(25), 0.3, raters)),
            dissents=np.arange(raters) < round(dissenting * raters),
            seed=seed,
        )

    @classmethod
    def uniform(cls, raters: int, *, reliability: float = 0.8, seed: int = 0) -> Population:
        """Raters all alike, without biases, ties or fatigue."""
        half, none = np.full(raters, 0.5), np.zeros(raters)
        return cls(
            reliability=np.full(raters, reliability),
            prefers_first=half,
            prefers_longer=half,
            prefers_lists=half,
            ties=none,
            fatigue=none,
            seconds=np.full(raters, 25.0),
            dissents=np.zeros(raters, np.bool_),
            seed=seed,
        )

    def __len__(self) -> int:
        """Raters, R."""
        return len(self.reliability)

    @cached_property
    def sharp(self) -> Floats:
        """α of each rater."""
        return np.array([sharpness(float(r)) for r in self.reliability])

    def groups(self) -> list[dict[str, str]]:
        """As ``Judgements.groups``: region north, and south for those who dissent."""
        return [{"region": "south" if d else "north"} for d in self.dissents]


@dataclass(frozen=True)
class Items:
    """I pairs of answers with a known truth."""

    margin: Floats
    """[I] How much better a is, with r.m.s. 1; gold is its sign."""
    features: Mapping[str, Floats]
    """[I] each: "length" in characters, "lists" in marks, a minus b."""
    contested: Flags
    """[I] Where those who dissent want the opposite."""
    keys: Ints
    """[I] What an item is to the hash: the same pair gets the same answers in any project."""

    @classmethod
    def drawn(
        cls, items: int, *, seed: int = 0, length_quality: float = 0.3, contested: float = 0.0
    ) -> Items:
        """Margins N(0, 1), of which ``length_quality`` is their slope on length: longer is
        better.
        """
        rng = np.random.default_rng([seed, 1])
        lengths = rng.lognormal(6.5, 0.5, (items, 2))
        lists = rng.poisson(4, (items, 2)) * (rng.random((items, 2)) < 0.4)
        features = {
            "length": np.round(lengths[:, 0]) - np.round(lengths[:, 1]),
            "lists": (lists[:, 0] - lists[:, 1]).astype(np.float64),
        }
        owed = length_quality * contrasts(features)["length"]
        margin = rng.normal(size=items) + owed
        return cls(
            margin=_unit(margin),
            features=features,
            contested=rng.random(items) < contested,
            keys=np.arange(items),
        )

    @cached_property
    def sways(self) -> dict[str, Floats]:
        """Features that raters react to: ``gauges.contrasts``."""
        return contrasts(self.features)

    @property
    def gold(self) -> Floats:
        """[I] 1 where a is better, −1 where b is."""
        return np.sign(self.margin)

    def __len__(self) -> int:
        """Items, I."""
        return len(self.margin)


@dataclass(frozen=True)
class Asked:
    """N questions: who is shown what, how, and how tired."""

    item: Ints
    rater: Ints
    first: Floats
    """1 where a is displayed first, −1 where b is."""
    hours: Floats
    """Since the rater's session began."""
    times: Ints
    """0 when first asked, 1 for the first repeat …"""


def answers(population: Population, items: Items, asked: Asked, *, levels: int = 1) -> Floats:
    """[N] What is said: −1 … 1 in the item's own order, 0 a tie, strengths in ``levels`` steps."""
    u = _log_odds(population, items, asked)
    key = items.keys[asked.item]
    rater = asked.rater
    nu = tie_weight(population.ties[rater])
    tie = nu / (np.exp(u / 2) + np.exp(-u / 2) + nu)
    tied = uniform(population.seed, 1, rater, key, asked.times) < tie
    leaning = u + logit(uniform(population.seed, 2, rater, key, asked.times))
    strength = np.minimum(np.floor(np.abs(leaning) / STRENGTH_STEP) + 1, levels) / levels
    return np.where(tied, 0.0, np.sign(leaning) * strength)


def seconds(population: Population, items: Items, asked: Asked) -> Floats:
    """[N] Time taken: log-normal, shorter as the session goes on for those who tire."""
    noise = ndtri(uniform(population.seed, 3, asked.rater, items.keys[asked.item], asked.times))
    tired = population.fatigue[asked.rater] * asked.hours
    return population.seconds[asked.rater] * np.exp(SPEED_SPREAD * noise - tired)


def expected_accuracy(population: Population, items: Items) -> Floats:
    """[R] Share of items on which each rater, rested and asked for a choice, takes gold's side,
    biases included and both orders shown.
    """
    found = np.zeros(len(population))
    rows, none = np.arange(len(items)), np.zeros(len(items))
    for k in range(len(population)):
        for first in (-1.0, 1.0):
            who, side = np.full(len(items), k), np.full(len(items), first)
            u = _log_odds(population, items, Asked(rows, who, side, none, rows * 0))
            found[k] += float(expit(u * items.gold).mean()) / 2
    return found


def true_gauges(population: Population, reference: Reference) -> dict[str, Floats]:
    """[R] each: what ``Gauge.own`` is to find, by name, where all of these raters judge together.

    Against the crowd a taste is what is left of the one that all have, as far as each follows
    quality.
    """
    sharp, found = population.sharp, {"first": population.prefers_first}
    for name, habit in (
        ("length", population.prefers_longer),
        ("lists", population.prefers_lists),
    ):
        own = logit(habit)
        common = 0.0 if reference == "gold" else float(own.sum() / sharp.sum())
        found[name] = expit(own - sharp * common)
    return found


def simulate(
    population: Population,
    items: Items,
    *,
    raters_per_item: int = 5,
    levels: int = 1,
    gold_share: float = 0.0,
    repeat_share: float = 0.0,
) -> Judgements:
    """A whole project at once: each item to ``raters_per_item`` raters, work shared out evenly.

    ``gold_share`` of the items tell their gold; ``repeat_share`` of a rater's items come twice.
    """
    rng = np.random.default_rng([population.seed, 2])
    rater = assign(len(items), len(population), raters_per_item, rng).ravel()
    item = np.repeat(np.arange(len(items)), raters_per_item)
    again = np.flatnonzero(rng.random(len(item)) < repeat_share)
    item, rater = np.concatenate([item, item[again]]), np.concatenate([rater, rater[again]])
    times = (np.arange(len(item)) >= len(item) - len(again)).astype(np.int64)
    at, hours = _timetable(population, rater)
    first = np.where(uniform(population.seed, 4, rater, item, times) < 0.5, 1.0, -1.0)
    asked = Asked(item, rater, first, hours, times)
    known = rng.random(len(items)) < gold_share
    return Judgements.of(
        item,
        rater,
        answers(population, items, asked, levels=levels),
        first=first,
        seconds=seconds(population, items, asked),
        at=at,
        repeat=times > 0,
        gold=np.where(known, items.gold, np.nan),
        features=items.features,
        groups=population.groups(),
        item_names=[f"item-{i}" for i in range(len(items))],
        rater_names=[f"r-{k}" for k in range(len(population))],
    )


def assign(items: int, raters: int, each: int, rng: np.random.Generator) -> Ints:
    """[items, each] Different raters for each item, all raters as often as each other (give or
    take 1).

    Raters are dealt out in shuffled rounds; a round that begins within an item does not begin with
    those who have that item already.
    """
    if not 0 < each <= raters:
        raise ValueError(f"{each} raters for each item were asked for; there are {raters} raters.")
    dealt, have = list[NDArray[Any]](), np.zeros(0, np.int64)
    for start in range(0, items * each, raters):
        round_of = rng.permutation(raters)
        if missing := (-start) % each:
            taken = np.isin(round_of, have[len(have) - (each - missing) :])
            fresh, late = round_of[~taken], round_of[taken]
            rest = rng.permutation(np.concatenate([fresh[missing:], late]))
            round_of = np.concatenate([fresh[:missing], rest])
        dealt.append(round_of)
        have = round_of
    return np.concatenate(dealt)[: items * each].reshape(items, each)


def uniform(seed: int, *keys: Any) -> Floats:
    """Numbers in (0, 1) that are a function of seed and keys (SplitMix64: Steele et al., 2014).

    Keys are whole numbers or arrays of them; [] for single ones.
    """
    state = np.uint64(seed % 2**64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = _mix(state ^ (np.asarray(key).astype(np.uint64) * GOLDEN + GOLDEN))
    return np.asarray(((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)


def _mix(x: Any) -> Any:
    x = x + GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _log_odds(population: Population, items: Items, asked: Asked) -> Floats:
    rater, item = asked.rater, asked.item
    z = {name: x[item] for name, x in items.sways.items()}
    turned = np.where(population.dissents[rater] & items.contested[item], -1.0, 1.0)
    awake = np.exp(-population.fatigue[rater] * asked.hours)
    u = population.sharp[rater] * awake * turned * items.margin[item]
    u += logit(population.prefers_first)[rater] * asked.first
    u += logit(population.prefers_longer)[rater] * z.get("length", 0.0)
    return u + logit(population.prefers_lists)[rater] * z.get("lists", 0.0)


@lru_cache(maxsize=100_000)
def sharpness(reliability: float) -> float:
    """The α with mean σ(α|m|) = reliability, for margins m ~ N(0, 1)."""
    if reliability < 0.5:
        return -sharpness(1 - reliability)
    margins = ndtri((np.arange(2000) + 0.5) / 4000 + 0.5)
    low, high = 0.0, 1e3
    for _ in range(60):  # bisection
        middle = (low + high) / 2
        below = float(expit(middle * margins).mean()) < min(reliability, 0.99)
        low, high = (middle, high) if below else (low, middle)
    return low


def tie_weight(ties: Floats) -> Floats:
    """ν with ν/(2 + ν) = P(tie) between equals."""
    return 2 * ties / (1 - np.minimum(ties, 0.99))


def _unit(x: Floats) -> Floats:
    return x / max(float(np.sqrt((x**2).mean())), 1e-12) if len(x) else x


def _timetable(population: Population, rater: Ints) -> tuple[Floats, Floats]:
    """When each judgement is made (Unix seconds), and how many hours into its session.

    Everybody sits for ``SESSION_HOURS`` a day until done, at their median pace.
    """
    order = np.argsort(rater, kind="stable")
    begin = np.flatnonzero(np.diff(rater[order], prepend=-1))
    count = np.diff(begin, append=len(rater))
    turn = np.empty(len(rater))
    turn[order] = np.arange(len(rater)) - np.repeat(begin, count)
    hours = turn * population.seconds[rater] / 3600
    day = np.floor(hours / SESSION_HOURS)
    return START + day * DAY + (hours % SESSION_HOURS) * 3600, hours % SESSION_HOURS
