"""One cause: which alarm of a stage the summary points at, so that both say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backflip.monitor.folder import Stage, number

RANK = (
    "non_finite",
    "answers_cut_off",
    "score_saturation",
    "reward_hacking",
    "likelihood_displacement",
    "implicit_reward_follows_length",
    "length_rewarded",
    "kl_too_high",
    "mode_collapse_entropy",
    "mode_collapse_words",
    "mode_collapse_duplicates",
    "length_drift",
    "pairs_separated",
)
"""Alarms, those that explain the others first: where numbers are not finite, or answers are cut
off, nothing else means what it says."""


def cause(stage: Stage) -> Mapping[str, Any] | None:
    """The alarm to look at first; None where none fired. Of two alike the later one."""
    place = {name: index for index, name in enumerate(RANK)}
    fired = [a for a in stage.alarms if a.get("sentence")]
    ranked = sorted(
        fired,
        key=lambda a: (place.get(str(a.get("name")), len(RANK)), -(number(a.get("step")) or 0.0)),
    )
    return ranked[0] if ranked else None


def pointer(stage: Stage) -> str:
    """The sentence that sends a reader to that alarm, in the alarm's own words; empty without."""
    found = cause(stage)
    if found is None:
        return ""
    step = number(found.get("step"))
    where = "" if step is None else f" of step {step:.0f}"
    return f"Look first at the alarm{where}: {found['sentence']}"
