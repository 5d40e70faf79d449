"""Runs that were validated on the same questions: differences question by question, in words.

Two accuracies whose intervals overlap may still differ: how hard the questions are is common to
both, and cancels where the same ones are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from backflip.functional.statistics import paired_difference
from backflip.monitor.folder import flat_recipe
from backflip.monitor.run import Run, Stage
from backflip.monitor.text import Estimate, beyond, number, ranged, share, standing
from backflip.text import fixed

__all__ = ["paired_sentences"]

RIGHT, SCORE = "right", "score"
"""Of a held-out question in the samples: share of right answers, and mean score."""
REWARD = ("reward", "shaping")
"""Settings that must be alike where scores are compared."""


def paired_sentences(runs: Sequence[tuple[str, Run]]) -> list[str]:
    """How each run differs from the first on the questions that both were validated on."""
    found = [(name, run, stage) for name, run in runs if (stage := _validated(run)) is not None]
    if len(found) < 2:
        return []
    first, *others = found
    return [_compared(other, first) for other in others]


def _validated(run: Run) -> Stage | None:
    """The last stage that answered held-out questions."""
    return next((stage for stage in reversed(run.stages) if _questions(stage)), None)


def _questions(stage: Stage) -> dict[tuple[str, int], Mapping[str, Any]]:
    """The newest answers to held-out questions, by question and how often that came before."""
    rows = [row for row in stage.samples if "kl" in row and number(row.get("step")) is not None]
    best = number(stage.summary.get("best_step"))
    steps = {row["step"] for row in rows}
    kept = best if best and best in steps else max(steps, default=None)
    seen, found = Counter[str](), dict[tuple[str, int], Mapping[str, Any]]()
    for row in rows:
        if row["step"] == kept:
            asked = str(row.get("prompt"))
            found[asked, seen[asked]] = row
            seen[asked] += 1
    return found


def _compared(one: tuple[str, Run, Stage], other: tuple[str, Run, Stage]) -> str:
    (name, run, stage), (base, base_run, base_stage) = one, other
    rows, base_rows = _questions(stage), _questions(base_stage)
    common = [key for key in rows if key in base_rows]
    against = f"{name} against {base}"
    if not common:
        return f"{against}: no held-out question is common to both, so that only intervals compare."
    pairs = {
        measure: [
            (a, b)
            for key in common
            if (a := number(rows[key].get(measure))) is not None
            and (b := number(base_rows[key].get(measure))) is not None
        ]
        for measure in (RIGHT, SCORE)
    }
    if pairs[RIGHT]:
        return f"{against}, {_said(pairs[RIGHT], 'sampled accuracy', percent=True)}"
    if pairs[SCORE] and _reward(run) == _reward(base_run):
        return f"{against}, {_said(pairs[SCORE], 'mean score', percent=False)}"
    return (
        f"{against}: they were rewarded by different settings, and right answers are not on record "
        "question by question in both, so that only intervals compare. Runs of today record them."
    )


def _reward(run: Run) -> dict[str, str]:
    flat = flat_recipe(run.recipe)
    return {name: value for name, value in flat.items() if name.split(".")[0] in REWARD}


def _said(pairs: Sequence[tuple[float, float]], measure: str, *, percent: bool) -> str:
    """``on the same 162 questions: sampled accuracy 41.7 % against 43.7 %, …``."""
    here, there = ([pair[side] for pair in pairs] for side in (0, 1))
    means = [sum(values) / len(pairs) for values in (here, there)]
    now, was = (share(mean) if percent else fixed(mean, 2) for mean in means)
    found = Estimate.of(paired_difference(here, there))
    text = f"on the same {standing(len(pairs), 'question')}: {measure} {now} against {was}, "
    if all(a == b for a, b in pairs):
        return f"{text}the same on every one."
    value, ends = ranged(found, digits=1 if percent else 2, percent=percent, beside=(0.0,))
    text += f"difference {value}{' points' if percent else ''}, 95 % interval {ends}: "
    if found.doubt:
        return f"{text}{found.doubt}."
    return text + ("beyond chance." if beyond(found, 0.0) else "it may be chance.")
