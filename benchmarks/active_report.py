"""The page and the picture of ``active_queries.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
from bars import canvas, text
from scipy.stats import t

AT = (100, 200, 400, 600)
"""Labels at which the tables tell accuracies …"""
GAINS = (200, 400)
"""… and gains over random."""
COLOURS = ("#767676", "#2f6fd0", "#0f8a7e", "#7b4fc9", "#c2571a", "#b3306b", "#8a7a10", "#86b3f2")


# ---- the page


def page(found: dict[str, Any], about: dict[str, str], method: str) -> str:
    """``about``: a sentence or two on each pool."""
    runs = len(next(iter(next(iter(found["curves"].values())).values())))
    parts = [
        "# Active queries against random ones",
        "",
        "![Accuracy by labels](active_queries.svg)",
        "",
        f"Accuracy of a reward model on gold preferences of unseen pairs, means of {runs} seeds. "
        "Gains over random are paired by seed, with 95 % intervals (Student's t), bold where these "
        "exclude 0.",
        "",
    ]
    for kind, words in about.items():
        parts += [f"## The {kind} pool", "", words, "", *table(found, kind), ""]
    where = f"On {found['machine']}, by `python benchmarks/active_queries.py`; every curve is in\n"
    parts += ["## How it was measured", "", f"{where}`active_queries.json`."]
    return "\n".join(parts) + "\n" + method


def table(found: dict[str, Any], kind: str) -> list[str]:
    """Accuracy and gains of every strategy, and how many labels each needs for random's last."""
    labels = found["labels"]
    curves = {name: np.array(runs) for name, runs in found["curves"][kind].items()}
    goal = curves["random"].mean(0)[-1]
    head = [f"{n} labels" for n in AT] + [f"gain at {n}" for n in GAINS]
    lines = [
        "| strategy | " + " | ".join(head) + f" | labels for random's {goal:.3f} |",
        "|---" + "|---:" * (len(head) + 1) + "|",
    ]
    for name, runs in curves.items():
        cells = [f"{runs[:, labels.index(n)].mean():.3f}" for n in AT]
        for n in GAINS:
            gain = (runs - curves["random"])[:, labels.index(n)]
            cells.append("" if name == "random" else told(gain))
        reached = np.flatnonzero(runs.mean(0) >= goal)
        cells.append(str(labels[reached[0]]) if len(reached) else f"over {labels[-1]}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def told(gain: np.ndarray) -> str:
    """Mean over seeds with its 95 % interval."""
    mean = float(gain.mean())
    reach = float(t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5)
    sure = "**" if abs(mean) > reach else ""
    return f"{sure}{mean:+.3f} ± {reach:.3f}{sure}".replace("-", "−")


# ---- the picture

PANEL, HEIGHT, LEFT, TOP, BOTTOM = 420, 310, 52, 46, 44
COLUMNS, KEYS = 2, 4
"""Panels, and names of the legend, beside one another."""


def picture(found: dict[str, Any]) -> str:
    """A panel for each pool: accuracy against labels, one line for each strategy."""
    curves = found["curves"]
    names = list(next(iter(curves.values())))
    below = HEIGHT * (-(-len(curves) // COLUMNS)) + 10
    parts = list[str]()
    for number, kind in enumerate(curves):
        corner = (LEFT + (number % COLUMNS) * PANEL, (number // COLUMNS) * HEIGHT)
        parts += panel(*corner, found["labels"], curves[kind], kind)
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        x, y = LEFT + (number % KEYS) * 195, below + 22 * (number // KEYS)
        parts.append(f'<path d="M{x} {y}h22" stroke="{colour}" stroke-width="3"/>')
        parts.append(text(x + 28, y + 4, name))
    return canvas(PANEL * COLUMNS, below + 22 * (-(-len(names) // KEYS)), parts)


def panel(left: int, above: int, labels: list[int], curves: dict[str, Any], kind: str) -> list[str]:
    width, height, bottom = PANEL - LEFT - 18, HEIGHT - TOP - BOTTOM, above + HEIGHT - BOTTOM
    means = {name: np.mean(runs, 0) for name, runs in curves.items()}
    low = np.floor(20 * min(m.min() for m in means.values())) / 20
    high = np.ceil(20 * max(m.max() for m in means.values())) / 20

    def x(count: int) -> float:
        return left + width * count / labels[-1]

    def y(value: float) -> float:
        return bottom - height * (value - low) / (high - low)

    parts = [text(left, above + TOP - 20, f"accuracy, {kind} pool", bold=True)]
    for value in np.arange(low, high + 0.001, 0.05):
        parts.append(f'<path d="M{left} {y(value):.1f}H{left + width}" stroke="#e4e4e4"/>')
        parts.append(text(left - 36, y(value) + 4, f"{value:.2f}"))
    parts += [text(x(n) - 10, bottom + 18, str(n)) for n in (labels[0], *AT[1:])]
    parts.append(text(left + width / 2 - 20, bottom + 36, "labels"))
    for (name, mean), colour in zip(means.items(), COLOURS, strict=True):
        points = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in zip(labels, mean, strict=True))
        wide = 3 if name == "random" else 1.8
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{wide}"/>'
        )
    return parts
