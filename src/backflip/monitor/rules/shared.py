"""Rules of any stage: distance to the reference, scores, numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from backflip.functional.kl import LARGE_KL
from backflip.functional.statistics import FEWEST
from backflip.monitor.log import Entry
from backflip.monitor.rules.base import HIGHER, LOWER, Rule, newest
from backflip.monitor.text import KL_BY_ANSWERS, apart

WATCHED = ("loss", "policy_loss", "value_loss", "grad_norm", "reward", "kl", "approx_kl")


def leash(kl_stop: float | None) -> tuple[Rule, ...]:
    """A warning where the KL to the reference is high, and the end of the run at ``kl_stop``.

    ``kl_stop``: nats per answer; None never stops. The warning comes before it, and not where it
    would come with it or later.
    """
    warn = () if kl_stop is not None and kl_stop <= LARGE_KL else (KLTooHigh(),)
    return warn if kl_stop is None else (*warn, KLTooHigh(limit=kl_stop, severity="stop"))


def finite(*, stop: int = 3) -> tuple[Rule, ...]:
    """A warning at a step that is not finite, and the end of the run at ``stop`` in a row."""
    return (NonFinite(), NonFinite(streak=stop, severity="stop"))


@dataclass(frozen=True, kw_only=True)
class KLTooHigh(Rule):
    """The policy is far from the reference, where the reward model has seen nothing like it."""

    name = "kl_too_high"
    needs: tuple[str, ...] = ("kl",)
    eased: ClassVar[Mapping[str, float]] = {"limit": LOWER}
    limit: float = LARGE_KL
    """Nats per answer."""
    seen: str = f"{KL_BY_ANSWERS} to the reference"
    """The metric in words."""
    units: str = ""
    """The metric that counts what it stands on: on fewer than ``FEWEST`` it says nothing."""
    advice: str = (
        "the reward may no longer mean anything here. Read the samples; raise kl_coef, lower the "
        "learning rate, or go back to an earlier checkpoint."
    )

    def complaint(self, history: Sequence[Entry]) -> str | None:
        metrics = history[-1].metrics
        kl, units = metrics[self.needs[0]], metrics.get(self.units)
        if not kl > self.limit or (units is not None and units < FEWEST):
            return None
        shown, _ = apart([kl, self.limit], digits=1)
        return f"{self.seen} is {shown} nats per answer, above {self.limit:g}: {self.advice}"


@dataclass(frozen=True, kw_only=True)
class Saturation(Rule):
    """Scores have run away, or are all the same."""

    name = "score_saturation"
    needs: tuple[str, ...] = ("reward",)
    eased: ClassVar[Mapping[str, float]] = {"limit": LOWER, "least": HIGHER}
    spread: str = "reward_std"
    limit: float = 100.0
    least: float = 1e-3
    window: int = 3
    """Steps in a row without spread, so that one unlucky batch is not an alarm."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        mean = history[-1].metrics[self.needs[0]]
        if abs(mean) > self.limit:
            shown = apart([mean, self.limit, -self.limit], digits=0)[0]
            return (
                f"Scores average {shown}, beyond ±{self.limit:g}: the reward model has "
                "saturated. Train it with a lower learning rate or centering, and normalise it."
            )
        spreads = newest(history, self.spread, self.window)
        if self.spread not in history[-1].metrics or len(spreads) < self.window:
            return None
        if max(spreads) >= self.least:
            return None
        return (
            f"Scores have no spread (standard deviation {max(spreads):.1g} for {self.window} "
            "steps): there is nothing to learn from. Check the reward, and that answers differ."
        )


@dataclass(frozen=True, kw_only=True)
class NonFinite(Rule):
    """A loss, gradient or score is not a number."""

    name = "non_finite"
    streak: int = 1
    """Steps in a row."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        bad = [_not_numbers(entry) for entry in history[-self.streak :]]
        if len(bad) < self.streak or not all(bad):
            return None
        many = "" if self.streak == 1 else f" for {self.streak} steps in a row"
        return (
            f"{', '.join(bad[-1])} not finite{many}; such a step changes no weights. Lower the "
            "learning rate, clip gradients, or look at the batch that was kept."
        )


def _not_numbers(entry: Entry) -> list[str]:
    return [m for m in WATCHED if m in entry.metrics and not math.isfinite(entry.metrics[m])]
