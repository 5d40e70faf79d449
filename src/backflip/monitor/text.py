"""Numbers as people read them: rounding never hides a difference, nor an interval its width.

Every sentence that says "rose", "beyond" or "not better" prints the numbers that it is said of, and
must hold of them as they are printed. So numbers that differ are given as many digits as tell them
apart, and words are chosen by what is printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backflip.functional.statistics import FEWEST, Interval
from backflip.text import counted, fixed

MOST_DIGITS = 6
"""Behind the point: numbers that differ by less are the same to a reader."""
TOO_FEW = "too few to tell"
"""All that is said where a number stands on fewer than ``FEWEST`` units."""
SAME = "all the same"
"""Instead of the ends of an interval that has no width."""
UNCOUNTED = "how many it stands on is not on record, so it cannot tell"
NOISY, TRIVIAL = 0.65, 0.90
"""Accuracies that deserve a word, where all of the interval lies beyond."""

KL_BY_ANSWERS = "KL by the answers"
"""Mean of Σ (log π − log π_ref) over the tokens that were drawn: an estimate, which may come out
below 0."""
KL_EXACT = "KL by the exact sum"
"""Mean of Σ KL(π‖π_ref) over the tokens of the same answers, each a sum over the whole vocabulary:
never below 0, and less noisy."""
KL_MISMATCHED = "KL by mismatched answers"
"""KTO's: of answers to other prompts, held at 0 or above."""


@dataclass(frozen=True)
class Estimate:
    """A measured number with its interval and what it stands on, where those are known."""

    value: float
    low: float = math.nan
    high: float = math.nan
    units: int | None = None
    """Independent units, such as prompts; None where nobody counted."""

    @property
    def known(self) -> bool:
        """Whether it has an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def enough(self) -> bool:
        """Whether there is an interval, on enough units, to speak of more than the sample."""
        return self.known and self.units is not None and self.units >= FEWEST

    @property
    def doubt(self) -> str:
        """The reason for no verdict; empty where one can be given."""
        if self.enough:
            return ""
        return UNCOUNTED if self.units is None else TOO_FEW

    @staticmethod
    def of(interval: Interval) -> Estimate:
        """An interval that was just measured, as an estimate."""
        return Estimate(interval.estimate, interval.low, interval.high, interval.units)


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def estimate(summary: Mapping[str, Any], name: str, *, units: str = "") -> Estimate | None:
    """The number ``name`` of a summary, or of metrics, with ``name_low`` and its like beside it.

    ``units``: another key that counts what it stands on, where ``name_units`` is missing.
    """
    value, low, high, counted = (
        number(summary.get(name + end)) for end in ("", "_low", "_high", "_units")
    )
    if value is None:
        return None
    if counted is None and units:
        counted = number(summary.get(units))
    return Estimate(
        value,
        math.nan if low is None else low,
        math.nan if high is None else high,
        None if counted is None else int(counted),
    )


def apart(values: Sequence[float], *, digits: int, percent: bool = False) -> list[str]:
    """Numbers with a real minus sign and the fewest digits, from ``digits`` up, that differ where
    the numbers do; their order is that of the numbers. Percentages come without their sign.
    """
    scaled = [value * 100 if percent else value for value in values]
    different = len({fixed(value, MOST_DIGITS) for value in scaled})
    texts = [fixed(value, digits) for value in scaled]
    while len(set(texts)) < different and digits < MOST_DIGITS:
        digits += 1
        texts = [fixed(value, digits) for value in scaled]
    return texts


def change(before: float, after: float, *, digits: int = 2) -> tuple[str, int]:
    """A change as "from 0.10 to 1.20", and which way that goes as it is printed: 1, 0 or −1."""
    was, now = apart([before, after], digits=digits)
    if was == now:
        return f"stayed at {now}", 0
    return f"from {was} to {now}", 1 if after > before else -1


def ranged(
    estimated: Estimate, *, digits: int, percent: bool = False, beside: Sequence[float] = ()
) -> tuple[str, str]:
    """A number, and its interval as "0.10 to 0.40", none of it printed like another.

    ``beside``: numbers that the reader will hold against it, such as ½ or a baseline. The second
    text is empty where there is no interval.
    """
    if not estimated.known:
        return apart([estimated.value, *beside], digits=digits, percent=percent)[0], ""
    value, low, high = apart(
        [estimated.value, estimated.low, estimated.high, *beside], digits=digits, percent=percent
    )[:3]
    return value, SAME if low == high else f"{low} to {high}"


def interval_said(ends: str) -> str:
    """The ends of an interval with its name; numbers without any spread have none."""
    return ends if ends == SAME else f"95 % interval {ends}"


def share(value: float, *, digits: int = 1) -> str:
    """A share as "73.2 %"; never 0 or 100 % where it is not quite."""
    return apart([value, 0.0, 1.0], digits=digits, percent=True)[0] + " %"


def share_ranged(
    estimated: Estimate, *, digits: int = 1, beside: Sequence[float] = ()
) -> tuple[str, str]:
    """A share, and its interval: "73.2 %", "61 to 84 %".

    The ends are whole numbers outside of the interval, where those lie on the same side of 0, 1
    and ``beside`` as the ends themselves; else they get more digits.
    """
    others = (0.0, 1.0, *beside)
    if estimated.known and estimated.low < estimated.high:
        low = math.floor(round(estimated.low * 100, MOST_DIGITS))
        high = math.ceil(round(estimated.high * 100, MOST_DIGITS))
        ends = ((estimated.low, low / 100), (estimated.high, high / 100))
        if all(_side(real, b) == _side(end, b) for real, end in ends for b in others):
            value = apart([estimated.value, *others], digits=digits, percent=True)[0]
            return f"{value} %", f"{low} to {high} %"
    value, ends = ranged(estimated, digits=digits, percent=True, beside=others)
    return f"{value} %", f"{ends} %" if "to" in ends else ends


def standing(number: int | None, what: str = "prompt") -> str:
    """The count that a number stands on, "1 prompt" or "48 prompts"; empty where nobody counted."""
    return "" if number is None else counted(number, what)


def beyond(estimated: Estimate, than: float) -> int:
    """1 or −1 where the whole interval lies above or below a number, as printed; else 0.

    0 as well where it stands on too few units.
    """
    if not estimated.enough:
        return 0
    low, high, other = apart([estimated.low, estimated.high, than], digits=MOST_DIGITS)
    if other in (low, high):
        return 0
    return (estimated.low > than) - (estimated.high < than)


def _side(value: float, other: float) -> int:
    return (value > other) - (value < other)


# ---- a held-out accuracy, of a reward model as of an implicit one


def length_baseline(summary: Mapping[str, Any]) -> tuple[str, float] | None:
    """Share of held-out comparisons that length alone orders right: (longer or shorter, share)."""
    shares = [(word, number(summary.get(f"baseline_{word}"))) for word in ("longer", "shorter")]
    measured = [(word, right) for word, right in shares if right is not None]
    return max(measured, key=lambda pair: pair[1], default=None)


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
    remarks: list[str] = []
    if beyond(accuracy, NOISY) < 0:
        remarks.append("Under 65 %: the labels are noisy, or training has not converged.")
    elif beyond(accuracy, TRIVIAL) > 0:
        remarks.append("Over 90 %: it may have memorised the data, or the comparisons are trivial.")
    return remarks + ([] if baseline is None else _about_baseline(accuracy, *baseline, gain))


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
    accuracy = estimate(summary, "accuracy", units="prompts")
    if accuracy is None or accuracy.units is not None:
        return accuracy
    return estimate(summary, "accuracy", units="pairs")


def accuracy_remarks(summary: Mapping[str, Any]) -> list[str]:
    """``about_accuracy`` of the numbers in a summary."""
    accuracy, gain = measured(summary), estimate(summary, "over_length")
    return [] if accuracy is None else about_accuracy(accuracy, length_baseline(summary), gain)
