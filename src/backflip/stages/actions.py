"""What a run does by itself when an alarm rings: a setting, ``on_alarm``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from backflip.monitor.alarms import TRUST
from backflip.monitor.log import Alarm
from backflip.monitor.views import view_of
from backflip.stages.settings import Group

__all__ = ["OnAlarm", "acted"]

ALL = "trust"
"""All alarms about the reward itself."""
FACTOR = 2.0
"""By which a rate is divided and a price of KL multiplied."""


class OnAlarm(Group):
    """Alarms by their names, and what follows one; trust stands for all about the reward itself.

    Whatever is not named is logged and said, no more.
    """

    lower_rate: tuple[str, ...] = ()
    """Halve the learning rate."""
    raise_kl: tuple[str, ...] = ()
    """Double algorithm.kl_coef."""
    stop: tuple[str, ...] = ()
    """End the run; its last weights, or the best ones, are kept."""
    roll_back: tuple[str, ...] = ()
    """End the run, with the weights of the newest checkpoint of before the alarm."""

    def asked(self, action: str, name: str) -> bool:
        """Whether an action follows an alarm."""
        named = getattr(self, action)
        return name in named or (ALL in named and name in TRUST)

    def faults(self, recipe: Any, where: str) -> Iterator[str]:
        """Sentences on alarms that are not known, and on actions that cannot be taken."""
        known = {rule.name for rule in view_of("online").rules(1.0, 0)} | {ALL}
        for action in type(self).model_fields:
            for name in getattr(self, action):
                if name not in known:
                    yield (
                        f"{where}.{action} has {name!r}, which is no alarm. There are: "
                        f"{', '.join(sorted(known))}."
                    )
        if self.raise_kl and not getattr(recipe.algorithm, "kl_coef", 0.0) > 0:
            yield (
                f"{where}.raise_kl is set, and there is no price of KL to double. Set "
                "algorithm.kl_coef above 0."
            )


def acted(settings: OnAlarm, alarms: Sequence[Alarm], loop: Any) -> tuple[list[str], str | None]:
    """(sentences on what was done, why the run is to end or None)."""
    said, ends = list[str](), list[str]()
    for alarm in alarms:
        if settings.asked("lower_rate", alarm.name):
            loop.learner.base_lrs = [rate / FACTOR for rate in loop.learner.base_lrs]
            said.append(f"learning rate halved, to at most {loop.learner.base_lrs[0]:g}")
        if settings.asked("raise_kl", alarm.name):
            coef = loop.algorithm.kl_coef * FACTOR
            loop.algorithm = replace(loop.algorithm, kl_coef=coef)
            said.append(f"algorithm.kl_coef doubled, to {coef:g}")
        if settings.asked("stop", alarm.name) or settings.asked("roll_back", alarm.name):
            ends.append(alarm.sentence)
    return said, next(iter(ends), None)
