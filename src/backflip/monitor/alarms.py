"""What a rule is that rings an alarm, and the memory that makes it ring once.

A rule is a frozen dataclass with ``check(history) -> Alarm | None``, a pure function; ``rules.py``
has them all. ``Alarms`` adds memory: an alarm fires once, and may fire again only after its relaxed
rule (thresholds moved away by a tenth) has been silent for a few checks, so that a number dancing
around its threshold does not ring at every step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backflip.monitor.log import Alarm, Entry

CALM = 3
"""For how many checks in a row a number must be back before its alarm may ring again."""


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """One thing that can go wrong."""

    severity: Literal["warn", "stop"] = "warn"

    @property
    @abstractmethod
    def name(self) -> str:
        """What the alarm is called."""

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Metrics without which the rule has nothing to say about a step."""

    @abstractmethod
    def complaint(self, history: Sequence[Entry]) -> str | None:
        """A sentence when the end of ``history`` is bad. ``needs`` are there at the end."""

    @abstractmethod
    def relaxed(self) -> Rule:
        """The rule with thresholds that are easier to break: it decides when an alarm is over."""

    def applies(self, entry: Entry) -> bool:
        """Whether the step was measured: a step without numbers is neither good nor bad."""
        return all(name in entry.metrics for name in self.needs)

    def check(self, history: Sequence[Entry]) -> Alarm | None:
        """The alarm at the end of ``history`` (oldest first, one stage), or None."""
        if not history or not self.applies(history[-1]):
            return None
        sentence = self.complaint(history)
        if sentence is None:
            return None
        last = history[-1]
        return Alarm(last.step, self.name, self.severity, sentence, last.stage)


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
