"""Rules about the reward itself: does it still mean what people want, so far from the start?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from backflip.monitor.log import Entry
from backflip.monitor.rules.base import HIGHER, LOWER, Rule, average, newest, start_and_end, upper
from backflip.monitor.text import apart

NOT_FOLLOWED = (
    "Keep a checkpoint of before, raise kl_coef, or collect comparisons of the newest answers and "
    "train the reward model again."
)


@dataclass(frozen=True, kw_only=True)
class HeldoutLags(Rule):
    """A head that learnt from other comparisons gains much less than the one that is raised.

    Both have mean 0 and deviation 1 at the start, so that equal gains mean equal belief (Bai et
    al., 2022, compare reward models of two halves of the data so). Under ``follow`` of the gain,
    the greater part of it is the raised head's own. That part is what errors are made of, but a
    head that is blind to a real gain lags too.
    """

    name = "heldout_lags"
    needs: tuple[str, ...] = ("reward", "reward_heldout")
    eased: ClassVar[Mapping[str, float]] = {"follow": HIGHER, "least": LOWER}
    follow: float = 0.5
    least: float = 0.5
    """A smaller gain, in deviations of the scores at the start, is not worth a word."""
    errors: float = 2.0
    """Standard errors by which it must lag."""
    window: int = 8
    raised: str = "reward_unshaped"
    """The raised score without penalties, where it is measured."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        own = self.raised if self.raised in history[-1].metrics else "reward"
        if len(newest(history, own, 2 * self.window)) < 2 * self.window:
            return None
        gain, beside = (_gain(history, name, self.window) for name in (own, "reward_heldout"))
        lag = _gain(history, "reward_heldout", self.window, less=(own, self.follow))
        if not (gain[0] > self.least and lag[0] + self.errors * lag[1] < 0):
            return None
        up, other, _ = apart([gain[0], beside[0], 0.0], digits=2)
        return (
            f"Since the start the reward rose by {up}, and by a head that learnt from other "
            f"comparisons by {other}: most of the gain is not confirmed. {NOT_FOLLOWED}"
        )


@dataclass(frozen=True, kw_only=True)
class EnsembleDisagrees(Rule):
    """Members of an ensemble differ more than they did at the start (Coste et al., 2023).

    Their deviation on an answer is set against the spread of scores among answers at the start,
    so that the numbers need no scale.
    """

    name = "ensemble_disagrees"
    needs: tuple[str, ...] = ("reward_spread",)
    eased: ClassVar[Mapping[str, float]] = {"factor": LOWER}
    factor: float = 2.0
    window: int = 5

    def complaint(self, history: Sequence[Entry]) -> str | None:
        then, now = start_and_end(history, "reward_spread", self.window)
        if not (then > 0 and now > self.factor * then):
            return None
        start, end = apart([then, now], digits=2)
        return (
            f"The ensemble's members differ by {end} on an answer, {start} at the start: they have "
            f"seen nothing like these answers. {NOT_FOLLOWED}"
        )


@dataclass(frozen=True, kw_only=True)
class GoldFell(Rule):
    """The gold that is only watched falls, while the reward does not (Gao et al., 2022)."""

    name = "gold_fell"
    needs: tuple[str, ...] = ("gold", "reward")
    eased: ClassVar[Mapping[str, float]] = {"errors": 0.7}
    window: int = 10
    errors: float = 3.0
    """Standard errors of the difference between the best window and the newest one."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        gold = newest(history, "gold", len(history))
        if len(gold) < 2 * self.window or not math.isfinite(history[-1].metrics["gold"]):
            return None
        size = self.window
        spans = [gold[i : i + size] for i in range(len(gold) - 2 * size + 1)]
        best, last = max(spans, key=average), gold[-size:]
        reach = math.hypot(*(upper(span, self.errors) - average(span) for span in (best, last)))
        if not average(last) < average(best) - reach:
            return None
        top, now = apart([average(best), average(last)], digits=3)
        return (
            f"Gold fell from {top} to {now} while the reward is raised: the policy has left what "
            "the reward was to stand for. Go back to a checkpoint of before, and raise kl_coef."
        )


@dataclass(frozen=True, kw_only=True)
class HeavyTail(Rule):
    """Errors of the raised head are heavy-tailed, as the held-out head sees them.

    Then a policy may reach any reward at a small KL without any gain (Kwa et al., 2024).
    From ξ = ½ on their variance is not finite.
    """

    name = "heavy_tails"
    needs: tuple[str, ...] = ("error_tail",)
    eased: ClassVar[Mapping[str, float]] = {"limit": LOWER}
    limit: float = 0.5
    window: int = 10

    def complaint(self, history: Sequence[Entry]) -> str | None:
        tails = newest(history, "error_tail", self.window)
        if len(tails) < self.window or average(tails) <= self.limit:
            return None
        shown, _ = apart([average(tails), self.limit], digits=2)
        return (
            f"The reward's differences from the held-out head have heavy tails (Hill's index "
            f"{shown} over {self.window} steps): a price of KL does not protect from such errors. "
            "Set shaping.clip, or use an ensemble's worst case."
        )


@dataclass(frozen=True, kw_only=True)
class CanaryWins(Rule):
    """An empty answer, or one token again and again, scores as high as what the policy writes."""

    name = "canary_wins"
    needs: tuple[str, ...] = ("val_canary_own", "val_canary_empty", "val_canary_repeated")

    def complaint(self, history: Sequence[Entry]) -> str | None:
        own, empty, repeated = (history[-1].metrics[name] for name in self.needs)
        kind, best = max(
            (("an empty answer", empty), ("one token repeated", repeated)), key=_second
        )
        if not best >= own:
            return None
        high, low = apart([best, own], digits=2)
        return (
            f"On held-out prompts {kind} scores {high}, the policy's own answers {low}: the reward "
            "model can be pleased by nothing. Add such answers to the comparisons, as rejected."
        )


@dataclass(frozen=True, kw_only=True)
class PromptIgnored(Rule):
    """An answer to another prompt scores nearly as high: the prompt hardly counts any more."""

    name = "prompt_ignored"
    needs: tuple[str, ...] = ("val_canary_own", "val_canary_swapped")
    eased: ClassVar[Mapping[str, float]] = {"share": HIGHER}
    share: float = 0.25
    """Of the difference at the start."""
    least: float = 0.25
    """A difference at the start, in deviations of the scores, below which nothing is said."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        gaps = [
            e.metrics[self.needs[0]] - e.metrics[self.needs[1]] for e in history if self.applies(e)
        ]
        if not (gaps[0] >= self.least and gaps[-1] < self.share * gaps[0]):
            return None
        then, now = apart([gaps[0], gaps[-1]], digits=2)
        return (
            f"Answers to another prompt score only {now} lower than the prompt's own, {then} at "
            f"the start: the reward is no longer about what was asked. {NOT_FOLLOWED}"
        )


@dataclass(frozen=True, kw_only=True)
class FarFeatures(Rule):
    """The reward model reads answers unlike those of the start, as its own features tell them."""

    name = "features_far"
    needs: tuple[str, ...] = ("val_feature_distance",)
    eased: ClassVar[Mapping[str, float]] = {"limit": LOWER}
    limit: float = 4.0
    """Mean squared distance, that of the start's own answers being 1: two deviations."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        far = history[-1].metrics["val_feature_distance"]
        if not far > self.limit:
            return None
        shown, _ = apart([far, self.limit], digits=1)
        return (
            f"In the reward model's features, answers lie {shown} times as far (squared) from the "
            f"start's as those lie from each other: it has learnt from nothing like them. "
            f"{NOT_FOLLOWED}"
        )


@dataclass(frozen=True, kw_only=True)
class OnePiece(Rule):
    """Most of a score comes with one piece of the answer, and did not at the start."""

    name = "one_piece"
    needs: tuple[str, ...] = ("val_one_piece",)
    eased: ClassVar[Mapping[str, float]] = {"share": LOWER, "rise": LOWER}
    share: float = 0.5
    rise: float = 0.2

    def complaint(self, history: Sequence[Entry]) -> str | None:
        first = next(e.metrics["val_one_piece"] for e in history if self.applies(e))
        now = history[-1].metrics["val_one_piece"]
        if not (now > self.share and now > first + self.rise):
            return None
        end, start = apart([now, first], digits=0, percent=True)
        return (
            f"{end} % of what moves a score comes with a single piece of the answer, {start} % at "
            "the start: a word may be enough to please the reward model. Read the samples."
        )


def _gain(
    history: Sequence[Entry], metric: str, n: int, less: tuple[str, float] = ("", 0.0)
) -> tuple[float, float]:
    """Mean of the last n values less that of the first n, and its standard error.

    ``less``: another metric, a multiple of which is taken off, step by step.
    """
    other, times = less
    values = [
        e.metrics[metric] - times * e.metrics.get(other, 0.0)
        for e in history
        if metric in e.metrics and (not other or other in e.metrics)
    ]
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2 * n:
        return math.nan, math.nan
    spans = known[:n], known[-n:]
    errors = [upper(span, 1.0) - average(span) for span in spans]
    return average(spans[1]) - average(spans[0]), math.hypot(*errors)


def _second(pair: tuple[str, float]) -> float:
    return pair[1]
