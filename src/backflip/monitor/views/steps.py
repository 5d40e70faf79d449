"""Sentences on the steps of an online run: rounds of sampling, and the parts of their time."""

from __future__ import annotations

from collections import Counter

from backflip.monitor.run import Stage
from backflip.monitor.text import share
from backflip.text import counted

__all__ = ["PARTS", "rounds_sentence", "time_sentence"]

PARTS = ("sampling", "scoring", "learning", "waiting")
"""Of a step's time; ``scoring`` is of rewards, reference and values, and the thread that drives the
step ``waiting`` for a server, for worker processes, or for a processor."""


def rounds_sentence(stage: Stage) -> str:
    """Steps that drew more than one round, and those that stayed short of prompts with signal."""
    drew = stage.series("rounds")[1]
    if max(drew, default=0) < 2:
        return ""
    steps = len(stage.series("answers")[1])
    several = Counter(round(rounds) for rounds in drew)
    told = ", ".join(f"{several[n]:,} drew {counted(n, 'round')}" for n in sorted(several))
    text = f"Of {counted(steps, 'step')}, {told}"
    if short := [missing for missing in stage.series("prompts_short")[1] if missing]:
        text += (
            f"; {len(short):,} stayed short all the same, by {counted(sum(short), 'prompt')} "
            f"in all, and learnt from fewer answers ({sum(stage.series('answers')[1]):,.0f} in "
            f"{counted(steps, 'step')})"
        )
    return f"{text}."


def time_sentence(stage: Stage) -> str:
    """Shares of the parts, each the mean over the steps."""
    spent = [stage.series(f"share_{name}")[1] for name in PARTS]
    if not all(spent):
        return ""
    parts = zip(PARTS, spent, strict=True)
    said = ", ".join(f"{share(sum(part) / len(part))} {name}" for name, part in parts)
    return f"Time of a step, over {counted(len(spent[0]), 'step')}: {said}."
