"""Rules about what answers say again: themselves, and one phrase whatever was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from backflip.monitor.log import Entry
from backflip.monitor.rules.answers import share_right
from backflip.monitor.rules.base import LOWER, Rule, start_and_end
from backflip.monitor.text import apart


@dataclass(frozen=True, kw_only=True)
class _Risen(Rule):
    """A share is above a limit, and by some of it above what it was."""

    eased: ClassVar[Mapping[str, float]] = {"share": LOWER, "rise": LOWER}
    share: float = 0.3
    rise: float = 0.15
    window: int = 5
    says: ClassVar[str]
    """The sentence, with {now} and {then} for percentages."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        if share_right(history[-1]) is not None:  # right answers may be alike
            return None
        then, now = start_and_end(history, self.needs[0], self.window)
        if not (now > self.share and now > then + self.rise):
            return None
        end, start = apart([now, then], digits=0, percent=True)
        return self.says.format(now=end, then=start)


@dataclass(frozen=True, kw_only=True)
class Repetition(_Risen):
    """Answers go round in circles: seq-rep-4 of Welleck et al. (2020); the limits are ours."""

    name = "repetition"
    needs: tuple[str, ...] = ("repetition",)
    says = (
        "{now} % of the 4-grams of an answer repeat an earlier one of it, {then} % at the start: "
        "answers go round in circles. Read the samples; raise kl_coef."
    )


@dataclass(frozen=True, kw_only=True)
class Boilerplate(_Risen):
    """The same phrases, whatever was asked."""

    name = "boilerplate"
    needs: tuple[str, ...] = ("boilerplate",)
    says = (
        "{now} % of all tokens stand in phrases that answers to at least half of the prompts "
        "share, {then} % at the start: a phrase is paid for, whatever is asked. Read the samples; "
        "add answers with it to the comparisons, as rejected."
    )


@dataclass(frozen=True, kw_only=True)
class Refusals(Rule):
    """Held-out prompts are refused that were answered at the start."""

    name = "refusals"
    needs: tuple[str, ...] = ("val_refusals",)
    eased: ClassVar[Mapping[str, float]] = {"rise": LOWER}
    rise: float = 0.2
    """Of the share of answers that refuse by the rules of ``evaluation/refusals.py``."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        first = next(e.metrics["val_refusals"] for e in history if self.applies(e))
        now = history[-1].metrics["val_refusals"]
        if not now > first + self.rise:
            return None
        end, start = apart([now, first], digits=0, percent=True)
        return (
            f"{end} % of the held-out prompts are refused, {start} % at the start: not answering "
            "is paid for. Add comparisons in which a refusal of a harmless request is rejected."
        )
