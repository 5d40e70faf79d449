"""Outcomes of checks among the metrics of a step: ``reward_correct``, ``reward_exact_correct``.

``reward_…`` is of the whole reward, ``reward_NAME_…`` of one of its terms. Verdicts are shares of
the answers learnt from; failures, which may leave an answer without a score, of all that were
drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["COURSE", "FAILED", "SCORED", "VERDICTS", "drawn", "givers", "terms", "whole"]

VERDICTS, FAILED = ("correct", "incorrect", "unparsable"), ("error", "timeout")
SCORED = "reward_scored"
"""Share of the answers learnt from that have a number in place of a verdict."""

COURSE = ("turns", "calls", "malformed", "failed")
"""Counts of an episode in an environment."""
NO_TERMS = {"std", "heldout", "unshaped", "scored", "spread", "parsed", "steps", "weakest"}
"""What sources of reward show beside a score, none of it a term of a mix."""


def terms(metrics: Iterable[str]) -> list[str]:
    """Names of the terms of a mix of rewards, whose mean scores are ``reward_NAME``."""
    other = {*NO_TERMS, *VERDICTS, *FAILED, *COURSE}
    shown = [name.removeprefix("reward_") for name in metrics if name.startswith("reward_")]
    names = [name for name in shown if name not in other]
    beside = [name.rpartition("_") for name in names]
    found = [
        name
        for name, (term, _, part) in zip(names, beside, strict=True)
        if not (part in other and term in names)
    ]
    return found if len(found) > 1 else []


def givers(metrics: Iterable[str]) -> set[str]:
    """Beginnings of metrics that are verdicts: ``reward_``, ``reward_exact_``."""
    found = (name.rpartition("_") for name in metrics if name.startswith("reward_"))
    return {f"{source}_" for source, _, outcome in found if outcome in VERDICTS}


def whole(metrics: Mapping[str, float], giving: Iterable[str]) -> dict[str, float]:
    """The metrics of a step, in which an outcome that no answer had is 0 and not missing.

    ``giving``: the ``givers`` of the run. What is no step of training stays as it is.
    """
    if "reward" not in metrics:
        return dict(metrics)
    names = {f"{source}{outcome}" for source in giving for outcome in (*VERDICTS, *FAILED)}
    full = {**dict.fromkeys(sorted(names), 0.0), **metrics}
    if "reward_" in giving and SCORED not in full:
        told = sum(full[f"reward_{name}"] for name in VERDICTS) + _late(full)
        full[SCORED] = max(0.0, 1.0 - told)
    return full


def drawn(metrics: Mapping[str, float]) -> float:
    """Answers that a step drew, those without a score and those that were replaced included."""
    kept = metrics.get("answers", 0.0)
    return metrics.get("answers_drawn", kept / max(1 - metrics.get("unscored", 0.0), 1e-9))


def _late(metrics: Mapping[str, float]) -> float:
    """Share of the answers learnt from whose check failed, and which have a score all the same."""
    failed = sum(metrics.get(f"reward_{name}", 0.0) for name in FAILED)
    late = max(0.0, failed - metrics.get("unscored", 0.0)) * drawn(metrics)
    return late / max(metrics.get("answers", 0.0), 1.0)
