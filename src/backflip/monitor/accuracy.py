"""What a held-out accuracy allows to say, of a reward model as of an implicit one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backflip.monitor.folder import length_baseline
from backflip.monitor.numbers import Estimate, beyond, estimate, ranged, share

NOISY, TRIVIAL = 0.65, 0.90
"""Accuracies that deserve a word, where all of the interval lies beyond."""


def about_accuracy(
    accuracy: Estimate, baseline: tuple[str, float] | None = None, gain: Estimate | None = None
) -> list[str]:
    """Sentences about a share of held-out pairs; none where it stands on too few prompts.

    Args:
        accuracy: share of the pairs that are ordered as people ordered them.
        baseline: what length alone gets on the same pairs: ("longer" or "shorter", share).
        gain: accuracy less that share, pair by pair, where it was measured.

    """
    if not accuracy.enough:
        return []
    found: list[str] = []
    if beyond(accuracy, NOISY) < 0:
        found.append("Under 65 %: the labels are noisy, or training has not converged.")
    elif beyond(accuracy, TRIVIAL) > 0:
        found.append("Over 90 %: it may have memorised the data, or the comparisons are trivial.")
    return found + ([] if baseline is None else _about_baseline(accuracy, *baseline, gain))


def _about_baseline(accuracy: Estimate, word: str, best: float, gain: Estimate | None) -> list[str]:
    paired = gain is not None and gain.known
    way = beyond(gain, 0.0) if gain is not None and paired else beyond(accuracy, best)
    if way > 0:
        return []
    text = f"Choosing the {word} reply would get {share(best)}"
    if gain is not None and paired:
        value, ends = ranged(gain, digits=1, percent=True, beside=(0.0,))
        text += f" (difference on the same pairs {value} points, {ends})"
    if way < 0:
        return [f"{text}: the model is worse than that."]
    return [f"{text}: the model is not clearly better than that."]


def measured(summary: Mapping[str, Any]) -> Estimate | None:
    """The accuracy of a summary, and how many prompts, or else pairs, it stands on."""
    found = estimate(summary, "accuracy", units="prompts")
    if found is None or found.units is not None:
        return found
    return estimate(summary, "accuracy", units="pairs")


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """``about_accuracy`` of what a summary has."""
    accuracy = measured(summary)
    gain = estimate(summary, "over_length")
    return [] if accuracy is None else about_accuracy(accuracy, length_baseline(summary), gain)
