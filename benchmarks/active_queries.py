"""Active queries against random ones: reward-model accuracy by labels, on simulated raters.

    python benchmarks/active_queries.py

Writes active_queries.json, .svg and .md. Four pools, five seeds, every strategy of
``feedback/queries.py``; three minutes on one core. Whatever comes out is reported.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import INK, machine
from scipy.stats import t

HERE = Path(__file__).parent
SEEDS, POOL, EXAM = 5, 6000, 6000
"""Runs; pairs that wait to be asked; pairs of the exam, drawn like the pool, judged by gold."""
FIRST, BATCH, MOST = 50, 50, 600
"""Labels by chance before any choice; labels of a round; labels at the end."""
DIMENSIONS, CEILING, RATERS = 24, 0.95, 20
DRAWS = 32
SHARE = 0.2
"""Of the random arm, where there is one."""


# ---- pools


@dataclass(frozen=True)
class Pool:
    """Pairs and what is true of them."""

    x: np.ndarray
    """[N, d] What a model sees of a over b."""
    margin: np.ndarray
    """[N] How much better a is."""


def plain(rng: np.random.Generator, w: np.ndarray, count: int) -> np.ndarray:
    """Every pair is as telling as another: features N(0, I)."""
    return rng.normal(size=(count, len(w)))


def uneven(rng: np.random.Generator, w: np.ndarray, count: int) -> np.ndarray:
    """Most pairs differ little, a few a lot: features N(0, I) times a log-normal length."""
    return rng.normal(size=(count, len(w))) * rng.lognormal(-0.5, 1.0, (count, 1))


def lopsided(rng: np.random.Generator, w: np.ndarray, count: int) -> np.ndarray:
    """Nine tenths of the pairs are of one sort and differ in a third of the features alone.

    As where one prompt's answers fill the log. The exam has all sorts equally, as users have.
    """
    x = rng.normal(size=(count, len(w)))
    common = rng.random(count) < (0.9 if count == POOL else 1 / 3)
    x[common, len(w) // 3 :] *= 0.05
    return x


def blind(rng: np.random.Generator, w: np.ndarray, count: int) -> np.ndarray:
    """As plain, but the model that chooses sees a third of what the reward model learns from.

    As where word counts choose for a language model.
    """
    return plain(rng, w, count)


POOLS: dict[str, Callable[..., np.ndarray]] = {
    "plain": plain,
    "uneven": uneven,
    "lopsided": lopsided,
    "blind": blind,
}
SEEN = {"blind": DIMENSIONS // 3}
"""Features that the choosing model sees, where not all."""


def drawn(kind: str, seed: int) -> tuple[Pool, Pool]:
    """The pool and the exam of a run, in the units of ``power.Learner``.

    Margins have r.m.s. 1 in the exam, and features know the share of them that makes ``CEILING``
    the best accuracy there is for features N(0, I).
    """
    from backflip.crowd.power import Learner

    rng = np.random.default_rng([seed, len(kind)])
    w = rng.normal(size=DIMENSIONS)
    w /= np.linalg.norm(w)
    known = Learner(DIMENSIONS, CEILING).known
    parts = list[Pool]()
    scale = 0.0
    for count in (EXAM + 1, POOL):
        x = POOLS[kind](rng, w, count)
        scale = scale or float((x @ w).std())
        hidden = rng.normal(size=count)
        parts.append(Pool(x, np.sqrt(known) * (x @ w) / scale + np.sqrt(1 - known) * hidden))
    return parts[1], parts[0]


# ---- raters


def ask(pool: Pool, rows: np.ndarray, seed: int) -> np.ndarray:
    """[len(rows)] What raters say, one for each pair, with all their habits.

    Which pair gets which rater does not depend on the strategy.
    """
    from backflip.crowd.simulate import Asked, Items, Population, answers, uniform

    people = Population.drawn(RATERS, seed=seed)
    items = Items(
        margin=pool.margin,
        features={"length": 1000 * pool.x[:, 0], "lists": np.round(2 * pool.x[:, 1])},
        contested=np.zeros(len(pool.x), np.bool_),
        keys=np.arange(len(pool.x)),
    )
    rater = (uniform(seed, 11, rows) * RATERS).astype(np.int64)
    first = np.where(uniform(seed, 12, rows) < 0.5, 1.0, -1.0)
    still = np.zeros(len(rows))
    return answers(people, items, Asked(rows, rater, first, still, still.astype(np.int64)))


# ---- strategies: (pool, places that are free, what is believed, how many, seed) → order


def by_information(x: np.ndarray, belief: Any, count: int, seed: int) -> np.ndarray:
    from backflip.feedback.beliefs import informative

    return informative(belief, x, count, noise=0.1)


def by_score(name: str) -> Callable[..., np.ndarray]:
    def order(x: np.ndarray, belief: Any, count: int, seed: int) -> np.ndarray:
        from backflip.feedback import queries

        logits = belief.draws(x, DRAWS, seed=seed)
        return queries.spread(getattr(queries, name)(logits), x, count)

    return order


def by_ensemble(x: np.ndarray, belief: Any, count: int, seed: int) -> np.ndarray:
    """Christiano et al. (2017): variance over three bootstrapped members, best first."""
    from backflip.feedback import queries

    return queries.top(queries.disagreement(belief.members @ x.T), count)


def by_diversity(x: np.ndarray, belief: Any, count: int, seed: int) -> np.ndarray:
    from backflip.feedback.queries import k_centre

    return k_centre(x, count, asked=belief.asked)


def by_chance(x: np.ndarray, belief: Any, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 5]).permutation(len(x))[:count]


STRATEGIES: dict[str, Callable[..., np.ndarray]] = {
    "random": by_chance,
    "information": by_information,
    "disagreement": by_score("disagreement"),
    "ensemble of 3": by_ensemble,
    "uncertainty": by_score("uncertainty"),
    "best against worst": by_score("best_against_worst"),
    "diversity": by_diversity,
    "information, 20 % random": by_information,
}
COLOURS = ("#767676", "#2f6fd0", "#0f8a7e", "#7b4fc9", "#c2571a", "#b3306b", "#8a7a10", "#86b3f2")


class Belief:
    """The posterior after some labels, with what the ensemble and diversity need."""

    def __init__(self, x: np.ndarray, share: np.ndarray, seed: int, *, ensemble: bool) -> None:
        from backflip.feedback.beliefs import fit_ensemble, fit_linear

        self.asked = x
        self.linear = fit_linear(x, share)
        self.mean, self.covariance = self.linear.mean, self.linear.covariance
        if ensemble:
            self.members = fit_ensemble(x, share, members=3, seed=seed)

    def log_odds(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.linear.log_odds(x)

    def draws(self, x: np.ndarray, count: int, *, seed: int) -> np.ndarray:
        return self.linear.draws(x, count, seed=seed)


def curve(kind: str, name: str, seed: int) -> list[float]:
    """Accuracy on the exam's gold after ``FIRST``, ``FIRST + BATCH`` … ``MOST`` labels."""
    from backflip.crowd.simulate import uniform
    from backflip.feedback.beliefs import fit_linear
    from backflip.feedback.queries import with_random_arm

    pool, exam = drawn(kind, seed)
    seen = pool.x[:, : SEEN.get(kind, DIMENSIONS)]
    draw = uniform(seed, 13, np.arange(POOL))
    share = SHARE if "random" in name and name != "random" else 0.0
    asked = np.random.default_rng([seed, 7]).permutation(POOL)[:FIRST]
    said, found = ask(pool, asked, seed), list[float]()
    while True:
        learnt = fit_linear(pool.x[asked], (said + 1) / 2)
        right = np.sign(exam.x @ learnt.mean) == np.sign(exam.margin)
        found.append(float(right.mean()))
        if len(asked) >= MOST:
            return found
        free = np.setdiff1d(np.arange(POOL), asked)
        belief = Belief(seen[asked], (said + 1) / 2, seed, ensemble=name == "ensemble of 3")
        order = STRATEGIES[name](seen[free], belief, 2 * BATCH, seed + len(asked))
        chosen = with_random_arm(order, draw[free], BATCH, share).index
        fresh = free[chosen]
        asked = np.concatenate([asked, fresh])
        said = np.concatenate([said, ask(pool, fresh, seed)])


# ---- the report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the three files")
    given = parser.parse_args()
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for kind in POOLS:
        curves[kind] = {}
        for name in STRATEGIES:
            curves[kind][name] = [curve(kind, name, seed) for seed in range(given.seeds)]
            print(kind, name, np.round(np.mean(curves[kind][name], 0)[[0, 3, -1]], 4), flush=True)
    found = {"machine": machine(), "labels": list(range(FIRST, MOST + 1, BATCH)), "curves": curves}
    (given.out / "active_queries.json").write_text(json.dumps(found, indent=1) + "\n")
    (given.out / "active_queries.svg").write_text(picture(found))
    (given.out / "active_queries.md").write_text(page(found))


def span(runs: list[float]) -> tuple[float, float]:
    """Mean over seeds, and half of its 95 % interval (Student's t)."""
    reach = float(t.ppf(0.975, len(runs) - 1)) * float(np.std(runs, ddof=1)) / len(runs) ** 0.5
    return float(np.mean(runs)), reach


def rows(found: dict[str, Any], kind: str) -> list[str]:
    """A table: accuracy at three sizes, and the gain over random on the same seeds."""
    labels, curves = found["labels"], found["curves"][kind]
    places = [labels.index(n) for n in (100, 200, 400, MOST)]
    head = [f"{labels[p]} labels" for p in places]
    gains = [f"gain at {labels[p]}" for p in places[1:3]]
    needed = np.mean(curves["random"], 0)[-1]
    table = [
        "| strategy | " + " | ".join(head + gains) + f" | labels for random's {needed:.3f} |",
        "|---" + "|---:" * (len(head) + len(gains) + 1) + "|",
    ]
    for name, runs in curves.items():
        all_runs = np.array(runs)
        cells = [f"{span(all_runs[:, p].tolist())[0]:.3f}" for p in places]
        for p in places[1:3]:
            mean, reach = span((all_runs[:, p] - np.array(curves["random"])[:, p]).tolist())
            sure = "**" if abs(mean) > reach else ""
            cells.append("" if name == "random" else f"{sure}{mean:+.3f} ± {reach:.3f}{sure}")
        reached = np.flatnonzero(all_runs.mean(0) >= needed)
        cells.append(str(labels[reached[0]]) if len(reached) else f"over {MOST}")
        table.append(f"| {name} | " + " | ".join(cells) + " |")
    return table


def page(found: dict[str, Any]) -> str:
    parts = [
        "# Active queries against random ones",
        "",
        "![Accuracy by labels](active_queries.svg)",
        "",
        "Accuracy of a reward model on gold preferences of unseen pairs, means of seeds. Gains",
        "over random are paired by seed, with 95 % intervals (Student's t), bold where these",
        "exclude 0.",
        "",
    ]
    for kind, make in POOLS.items():
        about = (make.__doc__ or "").strip().replace("\n    ", "\n")
        parts += [f"## The {kind} pool", "", about, "", *rows(found, kind), ""]
    return "\n".join([*parts, method(found)])


def method(found: dict[str, Any]) -> str:
    runs = len(next(iter(next(iter(found["curves"].values())).values())))
    return f"""## How it was measured

On {found["machine"]}, by `python benchmarks/active_queries.py`; every curve is in
`active_queries.json`.

* {POOL:,} pairs wait; {FIRST} chosen by chance are asked first, the same for all strategies, then
  {BATCH} a round, up to {MOST}. {runs} seeds: the pool, the truth, the raters, the first questions.
* {RATERS} simulated raters (`Population.drawn`): reliability 0.5 to 0.97, position, length and list
  bias, ties; one of them for each pair, and the same one whichever strategy asks for it.
* The reward model is Bradley-Terry's, linear in {DIMENSIONS} features, with the prior that the
  evidence chooses; with these features {CEILING:.0%} is the best accuracy there is (plain pool).
* In three pools it also chooses the questions, and the truth is linear too: the setting that
  favours active choice most. The blind pool is nearer to a small model that chooses for a neural
  reward model.
* *information* is the greedy batch of expected information about the weights; *disagreement* and
  *uncertainty* score {DRAWS} draws of the posterior and spread the batch out; *ensemble of 3* is
  Christiano et al.'s variance over three bootstrapped members without that spreading.
* *information, {SHARE:.0%} random* is what a project does: a random arm beside the active one.
"""


# ---- the picture

PANEL, HEIGHT, LEFT, TOP, BOTTOM = 420, 310, 52, 46, 44
COLUMNS = 2


def picture(found: dict[str, Any]) -> str:
    """A panel for each pool: accuracy against labels, one line for each strategy."""
    width, below = PANEL * COLUMNS, HEIGHT * (len(POOLS) // COLUMNS) + 10
    legend = below + 22 * ((len(STRATEGIES) + 3) // 4)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{legend}" '
        f'viewBox="0 0 {width} {legend}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{legend}" fill="white"/>',
    ]
    for number, kind in enumerate(POOLS):
        corner = (LEFT + (number % COLUMNS) * PANEL, (number // COLUMNS) * HEIGHT)
        parts += _panel(*corner, found["labels"], found["curves"][kind], kind)
    for number, (name, colour) in enumerate(zip(STRATEGIES, COLOURS, strict=True)):
        x, y = LEFT + (number % 4) * 195, below + 22 * (number // 4)
        parts.append(f'<path d="M{x} {y}h22" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(x + 28, y + 4, name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    left: int, above: int, labels: list[int], curves: dict[str, Any], kind: str
) -> list[str]:
    width, height, bottom = PANEL - LEFT - 18, HEIGHT - TOP - BOTTOM, above + HEIGHT - BOTTOM
    means = {name: np.mean(runs, 0) for name, runs in curves.items()}
    low = np.floor(20 * min(m.min() for m in means.values())) / 20
    high = np.ceil(20 * max(m.max() for m in means.values())) / 20

    def y(value: float) -> float:
        return bottom - height * (value - low) / (high - low)

    parts = [_text(left, above + TOP - 20, f"accuracy, {kind} pool", bold=True)]
    for value in np.arange(low, high + 0.001, 0.05):
        parts.append(f'<path d="M{left} {y(value):.1f}H{left + width}" stroke="#e4e4e4"/>')
        parts.append(_text(left - 36, y(value) + 4, f"{value:.2f}"))
    for count in (FIRST, 200, 400, MOST):
        x = left + width * count / MOST
        parts.append(_text(x - 10, bottom + 18, str(count)))
    parts.append(_text(left + width / 2 - 20, bottom + 36, "labels"))
    for (name, mean), colour in zip(means.items(), COLOURS, strict=True):
        points = " ".join(
            f"{left + width * n / MOST:.1f},{y(v):.1f}" for n, v in zip(labels, mean, strict=True)
        )
        wide = 3 if name == "random" else 1.8
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{wide}"/>'
        )
    return parts


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}"{weight}>{text}</text>'


if __name__ == "__main__":
    main()
