"""Rules about preference pairs: what becomes of chosen answers while margins grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from backflip.functional.statistics import FEWEST
from backflip.monitor.log import Entry
from backflip.monitor.rules.base import LOWER, Rule, average, newest, start_and_end, upper
from backflip.monitor.text import apart

FALLEN = 5.0
"""Nats an answer: e⁻⁵, so that people's choice is 150 times less likely than it was. Some fall is
expected of a policy that was fine-tuned on the chosen answers (Rafailov et al., 2024b)."""
SURE = 2.0
"""Standard errors by which a window's mean must be past a threshold: batches are small."""
WAYS_OUT = (
    "Lower optimizer.lr or raise objective.beta, train for fewer steps, add the likelihood of the "
    "chosen answers (objective.nll_coef=0.2, RPO), or take objective=apo_zero."
)


@dataclass(frozen=True, kw_only=True)
class LikelihoodDisplacement(Rule):
    """Preferred answers become unlikely while the margin grows (Razin et al., 2024).

    The objective asks for a difference only: what both answers lose goes to answers that nobody
    compared.
    """

    name = "likelihood_displacement"
    needs: tuple[str, ...] = ("logp_change_chosen",)
    eased: ClassVar[Mapping[str, float]] = {"fall": LOWER}
    fall: float = FALLEN
    window: int = 10
    """Steps at the beginning that are held against as many at the end; a third of a short stage."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        change = newest(history, "logp_change_chosen", self.window)
        if len(change) < self.window or not upper(change, SURE) < -self.fall:
            return None
        if (rise := _rise(history, self.window)) is None:
            return None
        nats, _ = apart([-average(change), self.fall], digits=1)
        return (
            f"Chosen answers became {nats} nats less likely than under the "
            f"reference while {rise}: their likelihood goes to answers that nobody compared. "
            f"{WAYS_OUT}"
        )


@dataclass(frozen=True, kw_only=True)
class HeldOutDisplacement(Rule):
    """Displacement without a reference: held-out chosen answers since the first validation.

    Those are the same answers each time, so two validations can be compared. On fewer than
    ``FEWEST`` prompts it says nothing.
    """

    name = "likelihood_displacement"
    needs: tuple[str, ...] = ("val_logp_chosen",)
    eased: ClassVar[Mapping[str, float]] = {"fall": LOWER}
    fall: float = FALLEN

    def complaint(self, history: Sequence[Entry]) -> str | None:
        metrics = history[-1].metrics
        if "val_logp_change_chosen" in metrics or metrics.get("val_units", FEWEST) < FEWEST:
            return None
        then, now = start_and_end(history, "val_logp_chosen", 1)
        if not now < then - self.fall or (rise := _rise(history, 1, prefix="val_")) is None:
            return None
        nats, _ = apart([then - now, self.fall], digits=1)
        return (
            f"Held-out chosen answers became {nats} nats less likely since the first validation "
            f"while {rise}: their likelihood goes to answers that nobody compared. {WAYS_OUT}"
        )


@dataclass(frozen=True, kw_only=True)
class RewardFollowsLength(Rule):
    """The implicit reward can be told from the length of the answer."""

    name = "implicit_reward_follows_length"
    needs: tuple[str, ...] = ("length_reward_correlation",)
    eased: ClassVar[Mapping[str, float]] = {"limit": LOWER}
    limit: float = 0.5
    """Pearson's r, up or down: beyond it length explains over a quarter of the reward (r²)."""
    window: int = 20

    def complaint(self, history: Sequence[Entry]) -> str | None:
        values = newest(history, "length_reward_correlation", self.window)
        if len(values) < self.window:
            return None
        r = average(values)
        if not upper([-v if r > 0 else v for v in values], SURE) < -self.limit:
            return None
        which = "longer" if r > 0 else "shorter"
        shown, *_ = apart([r, self.limit, -self.limit], digits=2)
        return (
            f"Implicit reward and length correlate at {shown} over {self.window} steps: {which} "
            "answers are preferred for their length. Balance the comparisons by length, or take an "
            "objective that counts by token (simpo, ipo, or DPO with a length term)."
        )


@dataclass(frozen=True, kw_only=True)
class MostlySeparated(Rule):
    """The pairs are nearly all told apart, and much of the run is still to come."""

    name = "pairs_separated"
    needs: tuple[str, ...] = ("separated",)
    eased: ClassVar[Mapping[str, float]] = {"share": LOWER}
    steps: int
    """In the whole stage; 0 where that is not known, and nothing is said."""
    share: float = 0.95
    """Of the pairs; one that is separated weighs σ(−margin) < 0.1 in DPO's gradient, where it began
    with 0.5."""
    left: float = 0.2
    """Share of the steps that must be ahead: at the very end there is nothing to stop."""
    window: int = 10

    def complaint(self, history: Sequence[Entry]) -> str | None:
        shares, step = newest(history, "separated", self.window), history[-1].step
        if len(shares) < self.window or not average(shares) > self.share:
            return None
        if self.steps - step < self.left * self.steps or not self.steps:
            return None
        apart_now, *_ = apart([average(shares), self.share, 1.0], digits=0, percent=True)
        return (
            f"{apart_now} % of the pairs are separated, and {self.steps - step} of "
            f"{self.steps} steps are still to come: they have little left to teach, and more steps "
            "only drive the answers apart. Take fewer epochs, or harder pairs."
        )


def _rise(history: Sequence[Entry], window: int, prefix: str = "") -> str | None:
    """The rise of margin or accuracy since the start, in words; None where neither rose."""
    then, now = start_and_end(history, f"{prefix}margin", window)
    if now > then:
        was, end = apart([then, now], digits=2)
        return f"the margin rose from {was} to {end}" if was != end else None
    then, now = start_and_end(history, f"{prefix}accuracy", window)
    if now > then:
        was, end = apart([then, now], digits=0, percent=True)
        return f"accuracy rose from {was} to {end} %"
    return None
