"""Rules about sampled answers and their rewards: collapse, hacking, length, ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from backflip.monitor.log import Entry
from backflip.monitor.outcomes import FAILED, drawn
from backflip.monitor.rules.base import (
    HIGHER,
    LOWER,
    Rule,
    average,
    newest,
    paired,
    slope,
    start_and_end,
)
from backflip.monitor.text import apart

MOSTLY_RIGHT, LEARNT = 0.5, 0.2
"""Share of right answers, and a rise of it, with which less entropy is what learning looks like."""


def share_right(entry: Entry) -> float | None:
    """The share of answers that a program found right; None where none gives verdicts."""
    verdicts = ("reward_correct", "reward_incorrect", "reward_unparsable")
    if not any(name in entry.metrics for name in verdicts):
        return None
    return entry.metrics.get("reward_correct", 0.0)


ENDS = "Allow longer answers (sampling.max_tokens), teach the end by SFT first"
"""The way out where answers do not end, the same in the alarm and in the summary."""


@dataclass(frozen=True, kw_only=True)
class _FallFromStart(Rule):
    """A metric falls to a share of what it was in the first steps."""

    share: float
    window: int = 5
    """Steps averaged at the start and at the end."""

    eased: ClassVar[Mapping[str, float]] = {"share": HIGHER}

    def fallen(self, history: Sequence[Entry], metric: str) -> tuple[float, float] | None:
        """Start and end, where the end is at most ``share`` of the start."""
        then, now = start_and_end(history, metric, self.window)
        return (then, now) if now < self.share * then else None


@dataclass(frozen=True, kw_only=True)
class FewerWords(_FallFromStart):
    """Mode collapse, seen in the words: answers to different prompts use the same few tokens."""

    name = "mode_collapse_words"
    needs: tuple[str, ...] = ("unique_tokens",)
    share: float = 0.5

    def complaint(self, history: Sequence[Entry]) -> str | None:
        fall = self.fallen(history, "unique_tokens")
        if fall is None or share_right(history[-1]) is not None:  # right answers use few words
            return None
        then, now = apart(fall, digits=0, percent=True)
        return (
            f"Unique tokens fell from {then} to {now} % of all tokens: answers are "
            "becoming alike (mode collapse). Read the samples; raise kl_coef or the entropy bonus."
        )


@dataclass(frozen=True, kw_only=True)
class EntropyCollapse(_FallFromStart):
    """Mode collapse, seen in the policy: it hardly chooses any more."""

    name = "mode_collapse_entropy"
    needs: tuple[str, ...] = ("entropy",)
    share: float = 0.25

    def complaint(self, history: Sequence[Entry]) -> str | None:
        if (fall := self.fallen(history, "entropy")) is None:
            return None
        start, end = start_and_end(history, "reward_correct", self.window)
        if end >= MOSTLY_RIGHT or end >= start + LEARNT:
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

    name = "mode_collapse_duplicates"
    needs: tuple[str, ...] = ("duplicate_answers",)
    eased: ClassVar[Mapping[str, float]] = {"share": LOWER, "rise": LOWER}
    share: float = 0.3
    rise: float = 0.15
    """The part of it that must be new: some prompts have one short answer from the beginning."""
    window: int = 5

    def complaint(self, history: Sequence[Entry]) -> str | None:
        if share_right(history[-1]) is not None:  # right answers to a question are alike
            return None
        then, now = start_and_end(history, "duplicate_answers", self.window)
        if not (now > self.share and now > then + self.rise):
            return None
        end, start = apart([now, then], digits=0, percent=True)
        return (
            f"{end} % of the answers repeat another one, {start} % did at the start (mode "
            "collapse). Read the samples; raise kl_coef or the sampling temperature."
        )


@dataclass(frozen=True, kw_only=True)
class RewardHacking(Rule):
    """The reward rises and a reward model that was not optimised against does not follow.

    Least-squares slopes over the last ``window`` measured steps. Rising: the slope is over
    ``certainty`` standard errors above 0. Flat: it is not, and even its upper bound is under
    ``follow`` of the reward's slope. Both heads are taken to have been normalised to std 1.
    """

    name = "reward_hacking"
    needs: tuple[str, ...] = ("reward", "reward_heldout")
    eased: ClassVar[Mapping[str, float]] = {"certainty": 0.7, "follow": 2}
    window: int = 20
    certainty: float = 3.0
    follow: float = 0.25
    least: float = 0.2
    """A smaller rise over the window, in units of the reward, is not worth a word."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        reward, heldout = paired(history, "reward", "reward_heldout", self.window)
        if len(reward) < self.window:
            return None
        rise, rise_error = slope(reward)
        other, other_error = slope(heldout)
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


@dataclass(frozen=True, kw_only=True)
class CutOff(Rule):
    """Hardly an answer ends by itself."""

    name = "answers_cut_off"
    needs: tuple[str, ...] = ("finished",)
    eased: ClassVar[Mapping[str, float]] = {"share": HIGHER}
    share: float = 0.1
    """Of the answers that end by themselves: below it the reward is little but the price of a
    missing end."""
    window: int = 3

    def complaint(self, history: Sequence[Entry]) -> str | None:
        shares = newest(history, "finished", self.window)
        if len(shares) < self.window or average(shares) >= self.share:
            return None
        ended, _ = apart([average(shares), self.share], digits=1, percent=True)
        return (
            f"Only {ended} % of the answers end by themselves; the rest are cut off at the length "
            f"limit, and their reward says little. {ENDS}."
        )


@dataclass(frozen=True, kw_only=True)
class FailedChecks(Rule):
    """Many answers are not checked: their checks raise, or take too long."""

    name = "checks_failed"
    needs: tuple[str, ...] = ("reward", "answers")
    eased: ClassVar[Mapping[str, float]] = {"share": LOWER}
    share: float = 0.1
    """Of the answers drawn in the window."""
    window: int = 5
    fewest: int = 10
    """Failed checks, below which nothing is said."""

    def complaint(self, history: Sequence[Entry]) -> str | None:
        steps = [e.metrics for e in history if self.applies(e)][-self.window :]
        counts = {
            name: round(sum(said.get(f"reward_{name}", 0.0) * drawn(said) for said in steps))
            for name in FAILED
        }
        failed, asked = sum(counts.values()), sum(map(drawn, steps))
        if len(steps) < self.window or failed < self.fewest or failed <= self.share * asked:
            return None
        shown, _ = apart([failed / asked, self.share], digits=0, percent=True)
        kinds = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        return (
            f"{shown} % of the checks of the last {self.window} steps failed ({kinds}, of "
            f"{asked:,.0f} answers). See the reasons at the end of the run; give checks more "
            "time (reward.seconds) or memory, or mend the reward function."
        )


@dataclass(frozen=True, kw_only=True)
class FarSampler(Rule):
    """Answers come from a policy that is far from the one that learns from them."""

    name = "sampler_far"
    needs: tuple[str, ...] = ("sampler_gap", "effective_share")
    eased: ClassVar[Mapping[str, float]] = {
        "share": HIGHER, "gap": LOWER, "held": LOWER, "kl": LOWER,
    }  # fmt: skip
    share: float = 0.5
    """Effective sample size of the weights, as a share of the choices."""
    gap: float = 0.05
    """Mean |log π − log μ| in nats a choice: number formats and kernels make less than 0.02.
    Answers that are older than the policy are far by nature: of these the share alone tells.
    """
    held: float = 0.3
    """Share of the choices whose weights were cut or dropped."""
    kl: float = 0.1
    """KL of the learner from the sampler, in nats a choice."""
    window: int = 5

    def complaint(self, history: Sequence[Entry]) -> str | None:
        shares, gaps = (newest(history, name, self.window) for name in self.needs[::-1])
        if min(len(shares), len(gaps)) < self.window:
            return None
        share, gap = average(shares), average(gaps)
        over = f"in the last {self.window} steps"
        if share < self.share:
            shown, _ = apart([share, self.share], digits=0, percent=True)
            return (
                f"{over} the weights of sampled choices were worth {shown} % of as many equal ones "
                f"(effective sample size). {self._advice(history[-1])}"
            )
        if gap > self.gap and not history[-1].metrics.get("lag"):
            shown, most = apart([gap, self.gap], digits=3)
            return (
                f"{over} the sampler's log-probabilities were {shown} nats a token from the "
                f"learner's, in the mean; up to {most} is usual. {self._advice(history[-1])}"
            )
        return self._much(history, over)

    def _much(self, history: Sequence[Entry], over: str) -> str | None:
        """Much that was cut, or a large distance, which is not old age alone."""
        held = newest(history, "correction_held", self.window)
        if len(held) == self.window and average(held) > self.held:
            shown, _ = apart([average(held), self.held], digits=0, percent=True)
            return (
                f"{over} the weights of {shown} % of the choices were cut or dropped (correction): "
                f"little of what was sampled is learnt from. {self._advice(history[-1])}"
            )
        kl = newest(history, "sampler_kl", self.window)
        if len(kl) == self.window and average(kl) > self.kl:
            shown, _ = apart([average(kl), self.kl], digits=2)
            return (
                f"{over} the learner was {shown} nats a token from the sampler (KL). "
                f"{self._advice(history[-1])}"
            )
        return None

    def _advice(self, entry: Entry) -> str:
        if entry.metrics.get("lag", 0.0) > 0:
            return "Draw fewer steps ahead (ahead), or learn in smaller steps (optimizer.lr)."
        return "See that the engine has the policy's weights, and in what precision it multiplies."


@dataclass(frozen=True, kw_only=True)
class LengthDrift(Rule):
    """Answers become much longer or shorter than they were."""

    name = "length_drift"
    needs: tuple[str, ...] = ("length",)
    eased: ClassVar[Mapping[str, float]] = {"factor": 0.95}
    factor: float = 2.0
    window: int = 5

    def complaint(self, history: Sequence[Entry]) -> str | None:
        then, now = start_and_end(history, "length", self.window)
        if not (now > then * self.factor or now * self.factor < then):
            return None
        start, end = apart([then, now], digits=0)
        return (
            f"Answers went from {start} to {end} tokens. See whether the reward pays for "
            "length (score_length_corr); a length penalty or balanced comparisons help."
        )


@dataclass(frozen=True, kw_only=True)
class LengthRewarded(Rule):
    """Long answers get the high scores, whatever they say."""

    name = "length_rewarded"
    needs: tuple[str, ...] = ("score_length_corr",)
    eased: ClassVar[Mapping[str, float]] = {"limit": LOWER}
    limit: float = 0.7
    window: int = 10

    def complaint(self, history: Sequence[Entry]) -> str | None:
        within = "score_length_corr_within" in history[-1].metrics
        name = "score_length_corr_within" if within else "score_length_corr"
        values = newest(history, name, self.window)
        if len(values) < self.window or average(values) <= self.limit:
            return None
        shown, _ = apart([average(values), 1.0], digits=2)
        among = " among answers to the same prompt" if within else ""
        return (
            f"Score and length correlate at {shown}{among} over {self.window} steps: the "
            "reward mostly pays for longer answers. Balance the comparisons by length, or add a "
            "length penalty."
        )
