"""Active queries against random ones: reward-model accuracy by labels, on simulated raters.

    python benchmarks/active_queries.py

Writes active_queries.json, .svg and .md. Four pools, five seeds, every strategy of
``feedback/queries.py``; some minutes on one core. Whatever comes out is reported.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from active_report import page, picture
from report import machine

HERE = Path(__file__).parent
SEEDS, POOL, EXAM = 5, 6000, 6000
"""Runs; pairs that wait to be asked; pairs of the exam, judged by gold."""
FIRST, BATCH, MOST = 50, 50, 600
"""Labels by chance before any choice; labels of a round; labels at the end."""
DIMENSIONS, CEILING, RATERS = 24, 0.95, 20
DRAWS, MEMBERS, NOISE = 32, 3, 0.1


# ---- pools


def plain(rng: np.random.Generator, count: int, *, exam: bool) -> np.ndarray:
    """Every pair is as telling as another: features N(0, I)."""
    return rng.normal(size=(count, DIMENSIONS))


def uneven(rng: np.random.Generator, count: int, *, exam: bool) -> np.ndarray:
    """Most pairs differ little, a few a lot: features N(0, I) times a log-normal length."""
    return rng.normal(size=(count, DIMENSIONS)) * rng.lognormal(-0.5, 1.0, (count, 1))


def lopsided(rng: np.random.Generator, count: int, *, exam: bool) -> np.ndarray:
    """Nine tenths of the pairs are of one sort and differ in a third of the features alone, as
    where one prompt's answers fill the log. The exam has all three sorts equally, as users have."""
    x = rng.normal(size=(count, DIMENSIONS))
    common = rng.random(count) < (1 / 3 if exam else 0.9)
    x[common, DIMENSIONS // 3 :] *= 0.05
    return x


def blind(rng: np.random.Generator, count: int, *, exam: bool) -> np.ndarray:
    """As plain, but the model that chooses sees a third of what the reward model learns from, as
    where word counts choose for a language model."""
    return plain(rng, count, exam=exam)


POOLS: dict[str, Callable[..., np.ndarray]] = {
    "plain": plain,
    "uneven": uneven,
    "lopsided": lopsided,
    "blind": blind,
}
SEEN = {"blind": DIMENSIONS // 3}
"""Features that the choosing model sees, where not all."""


@dataclass(frozen=True)
class Pairs:
    """Pairs and what is true of them."""

    x: np.ndarray
    """[N, d] What a model sees of a over b."""
    margin: np.ndarray
    """[N] How much better a is."""


def drawn(kind: str, seed: int) -> tuple[Pairs, Pairs]:
    """The pool and the exam of a run, in the units of ``power.Learner``.

    The exam's margins have r.m.s. 1, and features know the share of them that makes ``CEILING``
    the best accuracy there is for features N(0, I).
    """
    from backflip.feedback.statistics.power import Learner

    rng = np.random.default_rng([seed, len(kind)])
    w = rng.normal(size=DIMENSIONS)
    exam, pool = (POOLS[kind](rng, n, exam=e) for n, e in ((EXAM, True), (POOL, False)))
    w /= float((exam @ w).std())
    known = Learner(DIMENSIONS, CEILING).known
    pairs = [
        Pairs(x, np.sqrt(known) * (x @ w) + np.sqrt(1 - known) * rng.normal(size=len(x)))
        for x in (pool, exam)
    ]
    return pairs[0], pairs[1]


# ---- raters


def ask(pool: Pairs, rows: np.ndarray, seed: int) -> np.ndarray:
    """[len(rows)] What raters say, one for each pair, with all their habits.

    Which pair gets which rater does not depend on the strategy.
    """
    from backflip.feedback.statistics.simulate import Asked, Items, Population, answers, uniform

    items = Items(
        margin=pool.margin,
        features={"length": 1000 * pool.x[:, 0], "lists": np.round(2 * pool.x[:, 1])},
        contested=np.zeros(len(pool.x), np.bool_),
        keys=np.arange(len(pool.x)),
    )
    rater = (uniform(seed, 11, rows) * RATERS).astype(np.int64)
    first = np.where(uniform(seed, 12, rows) < 0.5, 1.0, -1.0)
    asked = Asked(rows, rater, first, np.zeros(len(rows)), np.zeros(len(rows), np.int64))
    return answers(Population.drawn(RATERS, seed=seed), items, asked)


# ---- strategies


@dataclass(frozen=True)
class Round:
    """What a strategy has to go by."""

    free: np.ndarray
    """[F, d] Pairs that wait."""
    asked: np.ndarray
    """[A, d] Pairs that were asked."""
    share: np.ndarray
    """[A] What was said of them: 1 for a, ½ a tie."""
    seed: int


Order = Callable[[Round, int], np.ndarray]
"""(round, how many) → places among those that wait, the best first."""


def by_chance(now: Round, count: int) -> np.ndarray:
    return np.random.default_rng([now.seed, 5]).permutation(len(now.free))[:count]


def by_information(now: Round, count: int) -> np.ndarray:
    """The greedy batch of expected information about the weights."""
    from backflip.feedback.choose.beliefs import fit_linear, informative

    return informative(fit_linear(now.asked, now.share), now.free, count, noise=NOISE)


def by_score(now: Round, count: int, *, name: str) -> np.ndarray:
    """An acquisition of ``queries`` over draws of the posterior, spread out."""
    from backflip.feedback.choose import queries
    from backflip.feedback.choose.beliefs import fit_linear

    logits = fit_linear(now.asked, now.share).draws(now.free, DRAWS, seed=now.seed)
    return queries.spread(getattr(queries, name)(logits), now.free, count)


def by_ensemble(now: Round, count: int) -> np.ndarray:
    """Christiano et al. (2017): variance over bootstrapped members, best first."""
    from backflip.feedback.choose import queries
    from backflip.feedback.choose.beliefs import fit_linear, modes

    whole = fit_linear(now.asked, now.share)
    votes = np.random.default_rng(now.seed).poisson(1.0, (MEMBERS, len(now.asked)))
    start = np.tile(whole.mean, (MEMBERS, 1))
    w = modes(now.asked, now.share, votes, whole.scale, start)
    return queries.top(queries.disagreement(w @ now.free.T), count)


def by_diversity(now: Round, count: int) -> np.ndarray:
    from backflip.feedback.choose.queries import k_centre

    return k_centre(now.free, count, asked=now.asked, odd=True)


STRATEGIES: dict[str, tuple[Order, float]] = {
    "random": (by_chance, 0.0),
    "information": (by_information, 0.0),
    "disagreement": (partial(by_score, name="disagreement"), 0.0),
    "ensemble of 3": (by_ensemble, 0.0),
    "uncertainty": (partial(by_score, name="uncertainty"), 0.0),
    "best against worst": (partial(by_score, name="best_against_worst"), 0.0),
    "diversity": (by_diversity, 0.0),
    "information, 20 % random": (by_information, 0.2),
}
"""How each orders the pairs that wait, and the share of its random arm."""


def curve(kind: str, name: str, seed: int) -> list[float]:
    """Accuracy on the exam's gold after ``FIRST``, ``FIRST + BATCH`` … ``MOST`` labels."""
    from backflip.feedback.choose.beliefs import fit_linear
    from backflip.feedback.choose.queries import with_random_arm
    from backflip.feedback.statistics.simulate import uniform

    order, share = STRATEGIES[name]
    pool, exam = drawn(kind, seed)
    seen = pool.x[:, : SEEN.get(kind, DIMENSIONS)]
    draw = uniform(seed, 13, np.arange(POOL))
    asked = np.random.default_rng([seed, 7]).permutation(POOL)[:FIRST]
    found = list[float]()
    while True:
        said = (ask(pool, asked, seed) + 1) / 2
        learnt = fit_linear(pool.x[asked], said)
        found.append(float((np.sign(exam.x @ learnt.mean) == np.sign(exam.margin)).mean()))
        if len(asked) >= MOST:
            return found
        free = np.setdiff1d(np.arange(POOL), asked)
        now = Round(seen[free], seen[asked], said, seed + len(asked))
        chosen = with_random_arm(order(now, 2 * BATCH), draw[free], BATCH, share).index
        asked = np.concatenate([asked, free[chosen]])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the three files")
    given = parser.parse_args()
    curves: dict[str, dict[str, list[list[float]]]] = {kind: {} for kind in POOLS}
    for kind in POOLS:
        for name in STRATEGIES:
            curves[kind][name] = [curve(kind, name, seed) for seed in range(given.seeds)]
            print(kind, name, np.round(np.mean(curves[kind][name], 0)[[0, 3, -1]], 4), flush=True)
    labels = list(range(FIRST, MOST + 1, BATCH))
    found: dict[str, Any] = {"machine": machine(), "labels": labels, "curves": curves}
    about = {kind: " ".join((make.__doc__ or "").split()) for kind, make in POOLS.items()}
    (given.out / "active_queries.json").write_text(json.dumps(found, indent=1) + "\n")
    (given.out / "active_queries.svg").write_text(picture(found))
    (given.out / "active_queries.md").write_text(page(found, about, METHOD))


METHOD = f"""
* {POOL:,} pairs wait; {FIRST} chosen by chance are asked first, the same for all strategies, then
  {BATCH} a round, up to {MOST}. A seed is a pool, a truth, raters, and first questions.
* {RATERS} simulated raters (`Population.drawn`): reliability 0.5 to 0.97, position, length and list
  bias, ties; one of them for each pair, and the same one whichever strategy asks for it.
* The reward model is Bradley-Terry's, linear in {DIMENSIONS} features, with the prior that the
  evidence chooses; with these features {CEILING:.0%} is the best accuracy there is (plain pool).
* In three pools it also chooses the questions, and the truth is linear too: the setting that
  favours active choice most. The blind pool is nearer to a small model that chooses for a neural
  reward model.
* *information* is the greedy batch of expected information about the weights, a tenth of the
  answers thought to be coin tosses; *disagreement*, *uncertainty* and *best against worst* score
  {DRAWS} draws of the posterior and spread the batch out; *ensemble of {MEMBERS}* is Christiano et
  al.'s variance over bootstrapped members without that spreading.
* *information, 20 % random* is what a project does: a random arm beside the active one.
"""


if __name__ == "__main__":
    main()
