"""The picture of a stage that raises a reward: PPO and its like.

Its summary has ``reward_before``, ``reward_after`` and ``reward_gain`` (after less before on the
same prompts), each a number or ``mean``, ``low``, ``high``, ``units``; the same of
``reward_heldout``; ``kl_after`` (nats per answer, by the answers), ``kl_exact_after`` (by the exact
sum), ``best_step`` (0 where no checkpoint beat the start), ``best_by``, ``finished_after``,
``missing_eos``. Whatever is missing is not spoken of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backflip.monitor import metrics
from backflip.monitor.alarms import pointer
from backflip.monitor.charts import intervals
from backflip.monitor.rules.answers import (
    ENDS,
    CutOff,
    DuplicateAnswers,
    EntropyCollapse,
    FailedChecks,
    FarSampler,
    FewerWords,
    LengthDrift,
    LengthRewarded,
    RewardHacking,
)
from backflip.monitor.rules.base import Rule
from backflip.monitor.rules.shared import Saturation, finite, leash
from backflip.monitor.rules.trust import (
    CanaryWins,
    EnsembleDisagrees,
    FarFeatures,
    GoldFell,
    HeavyTail,
    HeldoutLags,
    OnePiece,
    PromptIgnored,
)
from backflip.monitor.rules.wording import Boilerplate, Refusals, Repetition
from backflip.monitor.run import Stage
from backflip.monitor.text import (
    Estimate,
    apart,
    beyond,
    change,
    estimate,
    interval_said,
    number,
    ranged,
    share_ranged,
    standing,
)
from backflip.monitor.views.accuracy import (
    accuracy_card,
    accuracy_sentence,
    verdict_sentences,
)
from backflip.monitor.views.base import (
    Card,
    View,
    change_card,
    kl_at_end,
    kl_card,
    nats,
)
from backflip.monitor.views.gold import (
    gold_charts,
    gold_sentence,
    grown_sentence,
    trust_sentence,
)
from backflip.monitor.views.online_panels import ENGINE, KL_METRICS, panels_of
from backflip.monitor.views.steps import rounds_sentence, time_sentence
from backflip.monitor.wording import hill

UNTOLD = 2
"""A way that a reward went where there is too little to say which."""


def _rules(kl_stop: float | None, steps: int) -> tuple[Rule, ...]:
    return (
        *leash(kl_stop),
        FewerWords(),
        DuplicateAnswers(),
        EntropyCollapse(),
        GoldFell(),
        HeldoutLags(),
        EnsembleDisagrees(),
        PromptIgnored(),
        CanaryWins(),
        OnePiece(),
        FarFeatures(),
        HeavyTail(),
        Repetition(),
        Boilerplate(),
        Refusals(),
        RewardHacking(),
        Saturation(),
        CutOff(),
        FailedChecks(),
        FarSampler(),
        *finite(),
        LengthDrift(),
        LengthRewarded(),
    )


def _measured(loop: Any) -> dict[str, float]:
    """Metrics of the answers of the newest step, and the parts of their reward."""
    if loop.last is None:
        return {}
    experience, parts = loop.last.experience, loop.last.judgement.parts
    numbers = metrics.experience_metrics(experience)
    if "heldout" in parts:
        tail = hill(experience.scored.total() - parts["heldout"])
        numbers |= {} if math.isnan(tail) else {"error_tail": tail}
    numbers |= {f"share_{name}": part for name, part in loop.last.shares.items()}
    for name, part in parts.items():
        label = "gold" if name == "gold" else f"reward_{name}"
        numbers[label] = float(part.nanmean() if name == "gold" else part.mean())
    return numbers


# ---- rewards before and after


@dataclass(frozen=True)
class _Reward:
    """A reward of held-out prompts before and after."""

    before: Estimate
    after: Estimate
    gain: Estimate | None
    """After less before on the same prompts, where it was measured."""

    @staticmethod
    def of(stage: Stage, name: str) -> _Reward | None:
        """The reward of a summary; None where it is not whole."""
        before, after, gain = (_mean(stage, f"{name}_{end}") for end in ("before", "after", "gain"))
        return None if before is None or after is None else _Reward(before, after, gain)

    @property
    def printed(self) -> int:
        """1 where it rises in the numbers that a reader sees, −1 where it falls, else 0."""
        return change(self.before.value, self.after.value)[1]

    @property
    def paired(self) -> bool:
        """Whether the gain has an interval."""
        return self.gain is not None and self.gain.known

    @property
    def way(self) -> int | None:
        """1 where it rose beyond its 95 % interval, −1 where it fell so, 0 where within.

        By the difference on the same prompts where that was measured: their own spread cancels in
        it. ``UNTOLD`` where there is an interval on too few prompts, or numbers that contradict
        each other; None where there is no interval.
        """
        before, after, gain = self.before, self.after, self.gain
        if gain is not None and gain.known:
            way = beyond(gain, 0.0) if gain.enough else UNTOLD
        elif before.known and after.known:
            both = before.enough and after.enough
            way = (after.low > before.high) - (after.high < before.low) if both else UNTOLD
        else:
            return None
        return UNTOLD if way in (1, -1) and way != self.printed else way

    @property
    def doubt(self) -> str:
        """The reason for no verdict; empty where there is one, or no interval to give one by."""
        if self.way != UNTOLD:
            return ""
        parts = (self.gain, self.after, self.before)
        doubtful = next((p for p in parts if p is not None and p.known and p.doubt), None)
        if doubtful is None:
            return ""
        uncounted = self.paired or doubtful.units is None
        return doubtful.doubt if uncounted else f"{standing(doubtful.units)}, {doubtful.doubt}"

    @property
    def bracket(self) -> str:
        """The gain with its interval, in brackets, where it was measured on the same prompts."""
        if self.gain is None or not self.gain.known:
            return ""
        value, ends = ranged(self.gain, digits=2, beside=(0.0,))
        on = f", {standing(self.gain.units)}" if self.gain.units is not None else ""
        return f" (gain {value}, {ends}{on})"


def _mean(stage: Stage, key: str) -> Estimate | None:
    value = stage.summary.get(key)
    if isinstance(value, Mapping):
        named = {"mean" + ("" if part == "mean" else f"_{part}"): x for part, x in value.items()}
        return estimate(named, "mean")
    plain = number(value)
    return None if plain is None else Estimate(plain)


# ---- sentences


def reward_sentences(stage: Stage) -> list[str]:
    """The results in words; an alarm that explains them is named last."""
    reward, heldout = (_Reward.of(stage, name) for name in ("reward", "reward_heldout"))
    cut = _cut_off(stage)
    lines = [cut, *verdict_sentences(stage), accuracy_sentence(stage), _raised(stage, reward)]
    lines += [_heldout(reward, heldout), _best(stage), gold_sentence(stage)]
    lines += [grown_sentence(stage), trust_sentence(stage)]
    good = reward is not None and reward.way == 1
    good = good and (heldout is None or heldout.way in (1, None))
    if stage.summary.get("reward_after") is not None and not good and ENDS not in cut:
        lines.append(pointer(stage))
    return [*lines, rounds_sentence(stage), time_sentence(stage)]


def _cut_off(stage: Stage) -> str:
    """The reward of answers that were cut off: one number, whatever they say."""
    finished = estimate(stage.summary, "finished_after")
    price, most = number(stage.summary.get("missing_eos")), CutOff().share
    if finished is None or price is None or finished.value >= most:
        return ""
    cut = Estimate(1 - finished.value, 1 - finished.high, 1 - finished.low, finished.units)
    value, ends = share_ranged(cut, beside=(1 - most,))
    text = f"{value} of the answers were cut off"
    (paid,) = apart([price], digits=0 if price == int(price) else 2)
    if cut.doubt:
        on = f" ({ends}, {standing(cut.units)})" if standing(cut.units) else ""
        return f"{text}{on}, and each got shaping.missing_eos ({paid}): {cut.doubt}."
    if beyond(finished, most) >= 0:
        return ""
    return (
        f"{text} ({ends}, {standing(cut.units)}) and got "
        f"shaping.missing_eos ({paid}), whatever they say: there was next to nothing to "
        f"learn from. {ENDS}, or set shaping.missing_eos=null."
    )


def _raised(stage: Stage, reward: _Reward | None) -> str:
    if reward is None:
        return ""
    text, printed = change(reward.before.value, reward.after.value)
    tail = reward.bracket + _cost(stage)
    if not printed or reward.way == UNTOLD:
        went = "went " if printed else ""
        return f"The reward {went}{text}{tail}" + (f": {reward.doubt}." if reward.doubt else ".")
    return {
        None: f"The mean reward went {text}{tail}.",
        0: f"The reward went {text}{tail}: within its 95 % interval, it may be chance.",
        -1: f"The reward fell {text}, beyond its 95 % interval{tail}: read the samples.",
        1: f"The reward rose {text}, beyond its 95 % interval{tail}.",
    }[reward.way]


def _cost(stage: Stage) -> str:
    """The KL that was paid for the reward."""
    if (end := kl_at_end(stage)) is None:
        return ""
    value, ends = nats(end[1])
    within = f" ({ends})" if ends else ""
    return f", {value} nats of {end[0]}{within} away from the reference"


def _heldout(reward: _Reward | None, heldout: _Reward | None) -> str:
    """The reward by the head that nobody optimised against."""
    if heldout is None or (way := heldout.way) is None:
        return ""
    text, printed = change(heldout.before.value, heldout.after.value)
    span, went = text.removeprefix("from "), "went " if printed else ""
    rose = reward is not None and reward.printed > 0
    if way == UNTOLD:
        return f"The held-out reward {went}{text}{f': {heldout.doubt}' if heldout.doubt else ''}."
    if way == 1:
        beside = " with it" if reward is not None and reward.way == 1 else ""
        return f"The held-out reward rose{beside} ({span})."
    if way == -1:
        return f"The held-out reward fell ({span}){': do not trust the gain.' if rose else '.'}"
    if printed > 0:
        return (
            f"The held-out reward rose{' too' if rose else ''} ({span}), but within its 95 % "
            "interval: more held-out prompts (validation_prompts) would tell."
        )
    end = ": it does not confirm the gain." if rose else ", within its 95 % interval."
    return f"The held-out reward {went}{text}{heldout.bracket}{end}"


def _best(stage: Stage) -> str:
    """The checkpoint that was kept."""
    step, metric = number(stage.summary.get("best_step")), str(stage.summary.get("best_by") or "")
    if step is None:
        return ""
    by = "reward on held-out prompts" if metric == "val_reward" else "held-out reward"
    if step == 0:
        return f"No checkpoint beat the start by {by}: the model has the last weights."
    tried = len(stage.series(metric or "val_reward_heldout")[1])
    if tried < 2:
        return ""
    return (
        f"The weights are those of step {step:.0f}, the best of {tried} validations by {by} on the "
        "same prompts: that choice flatters what it gained."
    )


# ---- cards


def reward_cards(stage: Stage) -> list[Card | None]:
    """Rewards before and after."""
    names = (("reward", "Reward"), ("reward_heldout", "Held-out reward"))
    return [_reward_card(stage, name, label) for name, label in names]


def _reward_card(stage: Stage, name: str, label: str) -> Card | None:
    if (reward := _Reward.of(stage, name)) is None:
        return change_card(stage, name, label)
    before, after = reward.before, reward.after
    value = " → ".join(apart([before.value, after.value], digits=2))
    if not (before.known and after.known):
        return Card(label, value, "before and after")
    rows = [(n, m.value, m.low, m.high) for n, m in (("before", before), ("after", after))]
    ends = ranged(after, digits=2)[1]
    on = f", {standing(after.units)}" if after.units is not None else ""
    return Card(label, value, f"after: {interval_said(ends)}{on}", intervals(rows), ends)


VIEW = View(
    stages=("online", "ppo"),
    place=3,
    title="PPO",
    titled_by_algorithm=True,
    headlines=("reward", "reward_heldout", "val_pass_at_1", "kl"),
    panels=panels_of,
    engine=ENGINE,
    rules=_rules,
    sentences=reward_sentences,
    cards=lambda stage: (
        accuracy_card(stage),
        *reward_cards(stage),
        kl_card(stage, by=KL_METRICS),
    ),
    charts=gold_charts,
    measured=_measured,
)
