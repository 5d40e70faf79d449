"""Alarms of a run: the memory that makes each ring once, and the one to look at first.

An alarm fires once, and may fire again only after its relaxed rule (thresholds moved away by a
tenth) has been silent for a few checks, so that a number dancing around its threshold does not ring
at every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backflip.monitor.log import Alarm, Entry
from backflip.monitor.rules.base import Rule
from backflip.monitor.run import Stage
from backflip.monitor.text import number

CALM = 3
"""For how many checks in a row a number must be back before its alarm may ring again."""
RANK = (
    "non_finite",
    "answers_cut_off",
    "checks_failed",
    "sampler_far",
    "score_saturation",
    "gold_fell",
    "reward_hacking",
    "heldout_lags",
    "ensemble_disagrees",
    "prompt_ignored",
    "canary_wins",
    "one_piece",
    "features_far",
    "boilerplate",
    "repetition",
    "refusals",
    "heavy_tails",
    "likelihood_displacement",
    "implicit_reward_follows_length",
    "length_rewarded",
    "kl_too_high",
    "mode_collapse_entropy",
    "mode_collapse_words",
    "mode_collapse_duplicates",
    "length_drift",
    "pairs_separated",
)
"""Alarms, those that explain the others first: where numbers are not finite, or answers are cut
off, nothing else means what it says."""
BY_GOLD = frozenset({"gold_fell"})
"""Alarms that look at a gold, which a run outside of a laboratory has seldom."""
TRUST = BY_GOLD | {
    "reward_hacking",
    "heldout_lags",
    "ensemble_disagrees",
    "prompt_ignored",
    "canary_wins",
    "one_piece",
    "features_far",
    "boilerplate",
    "repetition",
    "refusals",
    "kl_too_high",
    "length_rewarded",
    "length_drift",
    "mode_collapse_entropy",
    "mode_collapse_words",
    "mode_collapse_duplicates",
}
"""Alarms after which the reward no longer speaks for itself."""


class Alarms:
    """The rules of a run, and which of their alarms are on."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._calm: dict[int, int] = {}
        """For each rule whose alarm is on: how many measured steps it has been silent."""

    def check(self, history: Sequence[Entry]) -> list[Alarm]:
        """Alarms that start at the last entry of ``history``. Call it once per step."""
        if history and history[0].stage != history[-1].stage:
            history = [entry for entry in history if entry.stage == history[-1].stage]
        fresh: list[Alarm] = []
        for index, rule in enumerate(self.rules):
            if index in self._calm:
                self._wait(index, history)
            elif alarm := rule.check(history):
                self._calm[index] = 0
                fresh.append(alarm)
        return fresh

    def replay(self, history: Sequence[Entry]) -> None:
        """Bring the memory to where it was after ``history``: for a run that is resumed."""
        self._calm.clear()
        for end in range(1, len(history) + 1):
            self.check(history[:end])

    def _wait(self, index: int, history: Sequence[Entry]) -> None:
        rule = self.rules[index]
        if not history or not rule.applies(history[-1]):
            return
        self._calm[index] = 0 if rule.relaxed().check(history) else self._calm[index] + 1
        if self._calm[index] >= CALM:
            del self._calm[index]


# ---- one cause, so that the summary and the alarms say the same


def cause(stage: Stage) -> Mapping[str, Any] | None:
    """The alarm to look at first; None where none fired. Of two alike the later one."""
    place = {name: index for index, name in enumerate(RANK)}
    return min(
        (alarm for alarm in stage.alarms if alarm.get("sentence")),
        key=lambda a: (place.get(str(a.get("name")), len(RANK)), -(number(a.get("step")) or 0.0)),
        default=None,
    )


def trust_lost(
    alarms: Sequence[Mapping[str, Any]], *, gold: bool = True
) -> Mapping[str, Any] | None:
    """The first alarm about the reward itself; None where there was none.

    ``gold``: whether one that looks at a gold counts.
    """
    names = TRUST if gold else TRUST - BY_GOLD
    told = [alarm for alarm in alarms if alarm.get("name") in names]
    return min(told, key=lambda alarm: number(alarm.get("step")) or 0.0, default=None)


def pointer(stage: Stage) -> str:
    """The sentence that sends a reader to that alarm, in the alarm's own words; empty without."""
    alarm = cause(stage)
    if alarm is None:
        return ""
    step = number(alarm.get("step"))
    where = "" if step is None else f" of step {step:.0f}"
    return f"Look first at the alarm{where}: {alarm['sentence']}"
