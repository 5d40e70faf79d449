"""Statistics at a glance: one agreement in a sentence, who needs attention, what splits raters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.members import Membership
from backflip.feedback.projects.project import Project
from backflip.text import counted, percent

FEWEST = 30
"""Things judged twice below which no verdict is drawn from an agreement."""
TENTATIVE, GOOD = 0.667, 0.8
"""Krippendorff's α that he asks for: tentative conclusions, and firm ones (2004)."""
FEWEST_GOLD = 3
"""Gold answers from which on a share below the mark is told."""
FEWEST_ANSWERS = 10
"""Answers from which on a rater is held against the others, or against their own pace."""
HASTY = 0.05
"""Share of answers far too fast from which on it is told."""
SHOWN = 3
"""Raters, items and attributes on the first screen."""


def of(project: Project, part: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the first screen: of all answers, or of one rubric version's."""
    raters = list(attention(project, part))
    return {
        "agreement": part["agreement"] and part["agreement"]["alpha"],
        "verdict": verdict(project.settings.kind, part["agreement"]),
        "attention": raters[:SHOWN],
        "more_raters": len(raters) - SHOWN,
        "raters": len(part["raters"]),
        "attributes": _attributes(made),
        "shown": SHOWN,
        "least": (FEWEST_GOLD, FEWEST_ANSWERS),
    }


def verdict(kind: str, agreement: Mapping[str, Any] | None) -> str:
    """The verdict of α and its interval, and no more: thresholds are Krippendorff's."""
    if not agreement:
        return "Nobody has given a verdict yet."
    count, alpha = agreement["items"], agreement["alpha"]
    told = counted(count, *kind_of(kind).wording.unit)
    if not count:
        return "Unknown: no two raters have judged the same yet."
    if not alpha:
        return f"Unknown on {told}: α needs answers that differ somewhere."
    if count < FEWEST:
        return f"Too few to tell: {told} with two raters or more; a verdict needs {FEWEST}."
    return f"{_compared(alpha['low'], alpha['high'])} On {told} with two raters or more."


def _compared(low: float, high: float) -> str:
    if low >= GOOD:
        return f"High: the whole interval lies at {GOOD} or above."
    if low >= TENTATIVE:
        return f"Enough for tentative conclusions: the whole interval lies at {TENTATIVE} or above."
    if high < 0:
        return "Raters say opposite things: the whole interval lies below 0, which is chance."
    if low <= 0:
        return "Not beyond chance: the interval holds 0."
    if high < TENTATIVE:
        return f"Beyond chance, but below the {TENTATIVE} of tentative conclusions."
    return f"Beyond chance; the interval holds {TENTATIVE}, the least for tentative conclusions."


def attention(project: Project, part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Raters who fail gold, hurry, or agree less than the others do, those with most first."""
    settings, counts = project.settings, project.tallies_by_person()
    figures = {rater["name"]: rater for rater in part["raters"]}
    usual = (part["agreement"] or {}).get("percent")
    found = list[dict[str, Any]]()
    for member in project.members():
        if member.state == "removed":
            continue
        rater = figures.get(member.pseudonym)
        why = [
            *_gold(member, counts.get(member.person, {}), settings.gold_warn),
            *(_pace(rater) if rater else ()),
            *(_apart(rater, usual) if rater and usual else ()),
        ]
        if why:
            found.append({"name": member.pseudonym, "state": member.state, "why": why})
    yield from sorted(found, key=lambda one: (one["state"] != "paused", -len(one["why"])))


def _gold(member: Membership, counts: Mapping[str, float], mark: float) -> Iterator[str]:
    seen, right = int(counts.get("gold_seen", 0)), int(counts.get("gold_right", 0))
    failed = seen >= FEWEST_GOLD and right < mark * seen
    if member.state == "paused" and member.reason == "screening":
        yield "did not pass the quiz"
    if failed or (member.state == "paused" and member.reason == "gold"):
        yield f"{right:,} of {seen:,} gold answers right"


def _pace(rater: Mapping[str, Any]) -> Iterator[str]:
    fast, answers = rater["fast"], rater["answers"]
    if answers >= FEWEST_ANSWERS and fast > HASTY * answers:
        yield f"{counted(fast, 'answer')} far too fast"


def _apart(rater: Mapping[str, Any], usual: Mapping[str, float]) -> Iterator[str]:
    """An agreement whose whole interval lies below that of all raters together."""
    own = rater["others"]
    if own and rater["answers"] >= FEWEST_ANSWERS and own["high"] < usual["estimate"]:
        yield (
            f"agrees with others {percent(own['estimate'])} ({100 * own['low']:.0f} to "
            f"{100 * own['high']:.0f}), all raters {percent(usual['estimate'])}"
        )


def _attributes(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attributes of ratings, those on which raters agree least first."""
    found = [
        {"name": name, "alpha": one["agreement"]["alpha"]}
        for name, one in made.get("attributes", {}).items()
        if one["agreement"] and one["agreement"]["alpha"]
    ]
    return sorted(found, key=lambda one: one["alpha"]["estimate"])
