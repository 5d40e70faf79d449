"""The picture of held-out accuracy, where a program says whether answers are right.

A summary has ``accuracy_before`` and ``accuracy_after``: by the names ``pass_at_1``, ``pass_at_k``,
``maj_at_k`` and ``greedy`` a mapping of ``mean``, ``low``, ``high`` and ``units``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from backflip.monitor.charts import intervals
from backflip.monitor.outcomes import FAILED, SCORED, VERDICTS, drawn, givers
from backflip.monitor.run import Stage
from backflip.monitor.text import Estimate, estimate, interval_said, share_ranged, standing
from backflip.monitor.views.base import Card, Panel

__all__ = ["accuracy_card", "accuracy_panels", "accuracy_sentence", "verdict_sentences"]


def accuracy_panels(stage: Stage) -> list[Panel]:
    """Held-out accuracy, verdicts on the step's answers, prompts with signal, the curriculum."""
    tries = [f"val_pass_at_{2**power}" for power in range(8)]
    found = [name for name in (*tries, *_votes(), "val_greedy") if stage.series(name)[1]]
    accuracy = {name: _label(name.removeprefix("val_")) for name in found}
    panels = [
        Panel("Held-out accuracy", "share of questions", accuracy, percent=True, zero=True),
        *(_verdict_panel(stage, source) for source in _shown(stage)),
        Panel(
            "Prompts with signal",
            "share of prompts whose answers differ in score",
            {"signal": "with signal"},
            percent=True,
            zero=True,
        ),
        *_curriculum_panels(stage),
    ]
    return [panel for panel in panels if any(stage.series(name)[1] for name in panel.metrics)]


def _curriculum_panels(stage: Stage) -> list[Panel]:
    """What a curriculum knows of its prompts, and how often a step asked."""
    states = {f"prompts_{name}": name for name in ("mixed", "solved", "unsolved")}
    drawn = {"answers_drawn": "drawn", "answers": "learnt from"}
    drawn = drawn if stage.series("answers_drawn")[1] else {}
    title, unit = "Prompts by their last answers", "share of prompts asked so far"
    return [
        Panel(title, unit, states, percent=True, zero=True),
        Panel("Rounds of sampling", "rounds of a step", {"rounds": "rounds"}, zero=True),
        Panel("Answers drawn", "answers of a step", drawn, zero=True),
    ]


def accuracy_sentence(stage: Stage) -> str:
    """Held-out accuracy before and after, each kind by its name."""
    before, after = (_found(stage, end) for end in ("before", "after"))
    both = [name for name in after if name in before]
    tries = [name for name in both if name.startswith("pass_at_")]
    both = [name for name in both if name not in tries[1:-1]]  # the first and the most of them
    if not both:
        return ""
    parts = [_went(_label(name), before[name], after[name]) for name in both]
    last = after[both[0]]
    doubt = f": {last.doubt}" if last.doubt else ""
    return f"Held-out accuracy, {standing(last.units)}: {'; '.join(parts)}{doubt}.{_failed(stage)}"


def _failed(stage: Stage) -> str:
    """How many of the sampled answers were never checked; empty where all were."""
    before, after = (stage.summary.get(f"unchecked_{end}") or 0 for end in ("before", "after"))
    if not before and not after:
        return ""
    return f" Counted as wrong, as their check failed or took too long: {before:,} and {after:,}."


def verdict_sentences(stage: Stage) -> list[str]:
    """How many answers of the run were found right, wrong and so on; none without verdicts.

    Of a mix, by the term whose verdicts count, or by each where none does.
    """
    sources = sorted(givers(stage.metrics()))
    counted = [source for source in sources if source == "reward_"] or sources
    return [_verdicts(stage, source) for source in counted]


def _whose(stage: Stage, source: str) -> str:
    """`` of exact``: the term of a mix that gave verdicts; empty where there is one source."""
    named = sorted(givers(stage.metrics()) - {"reward_"})
    if source == "reward_":
        series = [stage.series(f"{source}{name}")[1] for name in VERDICTS]
        named = [one for one in named if [stage.series(f"{one}{n}")[1] for n in VERDICTS] == series]
    else:
        named = [source]
    return f" of {named[0].removeprefix('reward_').rstrip('_')}" if named else ""


def _shown(stage: Stage) -> list[str]:
    """Sources whose verdicts are drawn: the reward as a whole, and terms that say otherwise."""
    sources = sorted(givers(stage.metrics()))
    whole = _whose(stage, "reward_") if "reward_" in sources else ""
    return [one for one in sources if one == "reward_" or _whose(stage, one) != whole]


def _verdict_panel(stage: Stage, source: str) -> Panel:
    verdicts = {f"{source}{name}": name for name in VERDICTS}
    rare = {SCORED: "scored by a number"} if source == "reward_" else {}
    rare |= {f"{source}{name}": name for name in FAILED}
    verdicts |= {name: label for name, label in rare.items() if any(stage.series(name)[1])}
    title = f"Verdicts{_whose(stage, source)}"
    return Panel(title, "share of answers", verdicts, percent=True, zero=True)


def _verdicts(stage: Stage, source: str) -> str:
    steps = [entry.metrics for entry in stage.entries if "answers" in entry.metrics]
    learnt = round(sum(said["answers"] for said in steps))
    counts = {
        name: round(sum(said.get(f"{source}{name}", 0.0) * said["answers"] for said in steps))
        for name in VERDICTS
    }
    failures, late = _failures(steps, source)
    right = ", ".join(f"{counts[name]:,} {name}" for name in VERDICTS)
    shared = learnt - sum(counts.values()) - late
    shared_too = f", {shared:,} scored by a number" if shared > 0 else ""
    whose = f"Verdicts{_whose(stage, source)}"
    return f"{whose} on the {learnt:,} answers learnt from: {right}{shared_too}{failures}."


def _failures(steps: Sequence[Mapping[str, float]], source: str) -> tuple[str, int]:
    """The checks that failed, and how many of them have a score all the same, as code that takes
    too long has.
    """
    counts = {
        name: round(sum(said.get(f"{source}{name}", 0.0) * drawn(said) for said in steps))
        for name in FAILED
    }
    unscored = round(sum(said.get("unscored", 0.0) * drawn(said) for said in steps))
    if not any(counts.values()):
        return "", 0
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    late = max(0, sum(counts.values()) - unscored)
    scored = f", of which {late:,} have a score all the same" if late else ""
    return f"; checks that were not made: {said}{scored}", late


def accuracy_card(stage: Stage) -> Card | None:
    """Sampled accuracy before and after."""
    before, after = (_found(stage, end).get("pass_at_1") for end in ("before", "after"))
    if before is None or after is None:
        return None
    rows = [(n, m.value, m.low, m.high) for n, m in (("before", before), ("after", after))]
    was, (now, ends) = share_ranged(before)[0], share_ranged(after)
    detail = f"after: {interval_said(ends)}, {standing(after.units)}"
    return Card("Held-out accuracy, sampled", f"{was} → {now}", detail, intervals(rows), ends)


def _went(label: str, before: Estimate, after: Estimate) -> str:
    was, (now, ends) = share_ranged(before, beside=(after.value,))[0], share_ranged(after)
    return (
        f"{label} {was} before, {now} after ({ends})"
        if was != now
        else f"{label} stayed at {now} ({ends})"
    )


def _found(stage: Stage, end: str) -> dict[str, Estimate]:
    raw: Any = stage.summary.get(f"accuracy_{end}")
    if not isinstance(raw, Mapping):
        return {}
    found: dict[str, Estimate] = {}
    for name, parts in cast("Mapping[str, Mapping[str, Any]]", raw).items():
        named = {"mean" + ("" if part == "mean" else f"_{part}"): x for part, x in parts.items()}
        if (measured := estimate(named, "mean")) is not None:
            found[name] = measured
    return found


def _label(name: str) -> str:
    """``sampled (pass@1)``, ``pass@8``, ``majority of 8``, ``greedy``."""
    if name == "pass_at_1":
        return "sampled (pass@1)"
    found = re.fullmatch(r"(pass|maj)_at_(\d+)", name)
    if found is None:
        return name
    return f"pass@{found[2]}" if found[1] == "pass" else f"majority of {found[2]}"


def _votes() -> list[str]:
    return [f"val_maj_at_{count}" for count in range(3, 129)]
