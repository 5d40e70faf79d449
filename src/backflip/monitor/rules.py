"""The alarm rules. Thresholds are fields, with the reason for their default beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backflip.functional.statistics import FEWEST
from backflip.monitor import trend
from backflip.monitor.alarms import Rule
from backflip.monitor.log import Entry
from backflip.monitor.numbers import apart
from backflip.monitor.titles import KL_BY_ANSWERS

SLACK = 0.1
"""How far past its threshold, as a share of it, a number must come back before an alarm is over."""

ENDS = "Allow longer answers (sampling.max_tokens), teach the end by SFT first"
"""What to do where answers do not end: the alarm and the summary say the same."""


def default_rules(
    *, kl_limit: float | int = 20.0, kl_stop: float | int | None = None, nonfinite_stop: int = 3
) -> tuple[Rule, ...]:
    """Every rule with its default. Rules whose metrics a stage does not log stay silent.

    ``kl_stop`` is the KL to the reference, in nats per answer, at which to stop; None never stops.
    A warning at ``kl_limit`` comes before it, and not where it would come with it or later.
    """
    warn = (
        () if kl_stop is not None and kl_stop <= kl_limit else (KLTooHigh(limit=float(kl_limit)),)
    )
    stop = () if kl_stop is None else (KLTooHigh(limit=float(kl_stop), severity="stop"),)
    return (
        *warn,
        *stop,
        FewerWords(),
        DuplicateAnswers(),
        EntropyCollapse(),
        RewardHacking(),
        Saturation(mean="reward", spread="reward_std"),
        Saturation(mean="score_mean", spread="score_std"),
        CutOff(),
        NonFinite(),
        NonFinite(streak=nonfinite_stop, severity="stop"),
        LengthDrift(),
        LengthRewarded(),
    )


@dataclass(frozen=True, kw_only=True)
class KLTooHigh(Rule):
    """The policy is far from the reference, where the reward model has seen nothing like it."""

    limit: float = 20.0
    """Nats per answer; published RLHF runs end between about 5 and 15."""
    metric: str = "kl"
    seen: str = f"{KL_BY_ANSWERS} to the reference"
    """What the metric is, in words."""
    units: str = ""
    """The metric that counts what it stands on: on fewer than ``FEWEST`` it says nothing."""
    advice: str = (
        "the reward may no longer mean anything here. Read the samples; raise kl_coef, lower the "
        "learning rate, or go back to an earlier checkpoint."
    )

    @property
    def name(self) -> str:
        return "kl_too_high"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.metric,)

    def complaint(self, history: Sequence[Entry]) -> str | None:
        kl, units = history[-1].metrics[self.metric], history[-1].metrics.get(self.units)
        if not kl > self.limit or (units is not None and units < FEWEST):
            return None
        shown, _ = apart([kl, self.limit], digits=1)
        return f"{self.seen} is {shown} nats per answer, above {self.limit:g}: {self.advice}"

    def relaxed(self) -> Rule:
        return replace(self, limit=self.limit * (1 - SLACK))


@dataclass(frozen=True, kw_only=True)
class _FallFromStart(Rule):
    """A metric falls to a share of what it was in the first steps."""

    share: float
    window: int = 5
    """Steps averaged at the start and at the end."""

    def fallen(self, history: Sequence[Entry], metric: str) -> tuple[float, float] | None:
        """Start and end, where the end is at most ``share`` of the start."""
        then, now = trend.start_and_end(history, metric, self.window)
        return (then, now) if now < self.share * then else None

    def relaxed(self) -> Rule:
        return replace(self, share=self.share * (1 + SLACK))


@dataclass(frozen=True, kw_only=True)
class FewerWords(_FallFromStart):
    """Mode collapse, seen in the words: answers to different prompts use the same few tokens."""

    share: float = 0.5

    @property
    def name(self) -> str:
        return "mode_collapse_words"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("unique_tokens",)

    def complaint(self, history: Sequence[Entry]) -> str | None:
        if (fall := self.fallen(history, "unique_tokens")) is None:
            return None
        then, now = apart(fall, digits=0, percent=True)
        return (
            f"Unique tokens fell from {then} to {now} % of all tokens: answers are "
            "becoming alike (mode collapse). Read the samples; raise kl_coef or the entropy bonus."
        )


@dataclass(frozen=True, kw_only=True)
class EntropyCollapse(_FallFromStart):
    """Mode collapse, seen in the policy: it hardly chooses any more."""

    share: float = 0.25

    @property
    def name(self) -> str:
        return "mode_collapse_entropy"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("entropy",)

    def complaint(self, history: Sequence[Entry]) -> str | None:
        if (fall := self.fallen(history, "entropy")) is None:
            return None
        then, now = apart(fall, digits=2)
        return (
            f"Entropy fell from {then} to {now} nats per token: the policy hardly "
            "explores any more (mode collapse). Raise the entropy bonus or kl_coef, or lower the "
            "learning rate."
        )


@dataclass(frozen=True, kw_only=True)
class DuplicateAnswers(Rule):
    """Mode collapse, seen in whole answers: the same one is given again and again."""

    share: float = 0.3
    rise: float = 0.15
    """How much of it must be new: some prompts have one short answer from the beginning."""
    window: int = 5

    @property
    def name(self) -> str:
        return "mode_collapse_duplicates"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("duplicate_answers",)

    def complaint(self, history: Sequence[Entry]) -> str | None:
        then, now = trend.start_and_end(history, "duplicate_answers", self.window)
        if not (now > self.share and now > then + self.rise):
            return None
        end, start = apart([now, then], digits=0, percent=True)
        return (
            f"{end} % of the answers repeat another one, {start} % did at the start (mode "
            "collapse). Read the samples; raise kl_coef or the sampling temperature."
        )

    def relaxed(self) -> Rule:
        return replace(self, share=self.share * (1 - SLACK), rise=self.rise * (1 - SLACK))


@dataclass(frozen=True, kw_only=True)
class RewardHacking(Rule):
    """The reward rises and a reward model that was not optimised against does not follow.

    Least-squares slopes over the last ``window`` measured steps. Rising: the slope is over
    ``certainty`` standard errors above 0. Flat: it is not, and even its upper bound is under
    ``follow`` of the reward's slope. Both heads are taken to have been normalised to std 1.
    """

    window: int = 20
    certainty: float = 3.0
    follow: float = 0.25
    least: float = 0.2
    """A smaller rise over the window, in units of the reward, is not worth a word."""

    @property
    def name(self) -> str:
        return "reward_hacking"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("reward", "reward_heldout")

    def complaint(self, history: Sequence[Entry]) -> str | None:
        reward, heldout = trend.pairs(history, "reward", "reward_heldout", self.window)
        if len(reward) < self.window:
            return None
        rise, rise_error = trend.slope(reward)
        other, other_error = trend.slope(heldout)
        rising = rise > self.certainty * rise_error and rise * self.window > self.least
        upper = other + 2.0 * other_error
        if not (rising and other <= 2.0 * other_error and upper < self.follow * rise):
            return None
        up, beside, _ = apart([rise * self.window, other * self.window, 0.0], digits=2)
        return (
            f"Over the last {self.window} measured steps the reward rose by {up} and the held-out "
            f"reward changed by {beside}: the reward model is being gamed. Keep the best "
            "checkpoint by held-out reward, raise kl_coef, or collect comparisons of the newest "
            "answers."
        )

    def relaxed(self) -> Rule:
        return replace(self, certainty=self.certainty * 0.7, follow=self.follow * 2)


@dataclass(frozen=True, kw_only=True)
class Saturation(Rule):
    """Scores have run away, or are all the same."""

    mean: str = "reward"
    spread: str = "reward_std"
    limit: float = 100.0
    least: float = 1e-3
    window: int = 3
    """Steps in a row without spread, so that one unlucky batch is not an alarm."""

    @property
    def name(self) -> str:
        return "score_saturation"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.mean,)

    def complaint(self, history: Sequence[Entry]) -> str | None:
        mean = history[-1].metrics[self.mean]
        if abs(mean) > self.limit:
            shown = apart([mean, self.limit, -self.limit], digits=0)[0]
            return (
                f"Scores average {shown}, beyond ±{self.limit:g}: the reward model has "
                "saturated. Train it with a lower learning rate or centering, and normalise it."
            )
        spreads = trend.last(history, self.spread, self.window)
        if self.spread not in history[-1].metrics or len(spreads) < self.window:
            return None
        if max(spreads) >= self.least:
            return None
        return (
            f"Scores have no spread (standard deviation {max(spreads):.1g} for {self.window} "
            "steps): there is nothing to learn from. Check the reward, and that answers differ."
        )

    def relaxed(self) -> Rule:
        return replace(self, limit=self.limit * (1 - SLACK), least=self.least * (1 + SLACK))


@dataclass(frozen=True, kw_only=True)
class CutOff(Rule):
    """Hardly an answer ends by itself."""

    share: float = 0.1
    """Of the answers that end by themselves: below it the reward is little but the price of a
    missing end."""
    window: int = 3

    @property
    def name(self) -> str:
        return "answers_cut_off"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("finished",)

    def complaint(self, history: Sequence[Entry]) -> str | None:
        shares = trend.last(history, "finished", self.window)
        if len(shares) < self.window or trend.mean(shares) >= self.share:
            return None
        ended, _ = apart([trend.mean(shares), self.share], digits=1, percent=True)
        return (
            f"Only {ended} % of the answers end by themselves; the rest are cut off at the length "
            f"limit, and their reward says little. {ENDS}."
        )

    def relaxed(self) -> Rule:
        return replace(self, share=self.share * (1 + SLACK))


@dataclass(frozen=True, kw_only=True)
class NonFinite(Rule):
    """A loss, gradient or score is not a number."""

    streak: int = 1
    """Steps in a row."""

    @property
    def name(self) -> str:
        return "non_finite"

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def complaint(self, history: Sequence[Entry]) -> str | None:
        bad = [_not_numbers(entry) for entry in history[-self.streak :]]
        if len(bad) < self.streak or not all(bad):
            return None
        many = "" if self.streak == 1 else f" for {self.streak} steps in a row"
        return (
            f"{', '.join(bad[-1])} not finite{many}; such a step changes no weights. Lower the "
            "learning rate, clip gradients, or look at the batch that was kept."
        )

    def relaxed(self) -> Rule:
        return self


@dataclass(frozen=True, kw_only=True)
class LengthDrift(Rule):
    """Answers become much longer or shorter than they were."""

    factor: float = 2.0
    window: int = 5

    @property
    def name(self) -> str:
        return "length_drift"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("length",)

    def complaint(self, history: Sequence[Entry]) -> str | None:
        then, now = trend.start_and_end(history, "length", self.window)
        if not (now > then * self.factor or now * self.factor < then):
            return None
        start, end = apart([then, now], digits=0)
        return (
            f"Answers went from {start} to {end} tokens. See whether the reward pays for "
            "length (score_length_corr); a length penalty or balanced comparisons help."
        )

    def relaxed(self) -> Rule:
        return replace(self, factor=1 + (self.factor - 1) * (1 - SLACK))


@dataclass(frozen=True, kw_only=True)
class LengthRewarded(Rule):
    """Long answers get the high scores, whatever they say."""

    limit: float = 0.7
    window: int = 10

    @property
    def name(self) -> str:
        return "length_rewarded"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("score_length_corr",)

    def complaint(self, history: Sequence[Entry]) -> str | None:
        values = trend.last(history, "score_length_corr", self.window)
        if len(values) < self.window or trend.mean(values) <= self.limit:
            return None
        shown, _ = apart([trend.mean(values), 1.0], digits=2)
        return (
            f"Score and length correlate at {shown} over {self.window} steps: the "
            "reward mostly pays for longer answers. Balance the comparisons by length, or add a "
            "length penalty."
        )

    def relaxed(self) -> Rule:
        return replace(self, limit=self.limit * (1 - SLACK))


WATCHED = ("loss", "policy_loss", "value_loss", "grad_norm", "reward", "kl", "approx_kl")


def _not_numbers(entry: Entry) -> list[str]:
    return [m for m in WATCHED if m in entry.metrics and not math.isfinite(entry.metrics[m])]
