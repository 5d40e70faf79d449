"""Members of an ensemble: what each is worth, and whether their disagreement tells of errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backflip.evaluation.trust.pairs import JudgedPairs, difference_interval
from backflip.functional.statistics import (
    Interval,
    accuracy,
    paired_difference,
    share_interval,
)

__all__ = ["Members", "measured_members"]


@dataclass(frozen=True)
class Members:
    """M judges beside their mean."""

    accuracies: tuple[Interval, ...]
    """Of each member."""
    gain: Interval
    """Accuracy of the ensemble less the mean of its members', on the same pairs."""
    united: Interval
    """Accuracy on pairs that all members order alike."""
    divided: Interval
    """Accuracy on the others."""
    gap: Interval
    """``divided`` less ``united``: below 0, disagreement tells of errors."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        parts = {"gain": self.gain, "united": self.united, "divided": self.divided}
        found = {k: v for name, one in parts.items() for k, v in one.named(name).items()}
        members = [one.named("accuracy") for one in self.accuracies]
        return {"members": members, **found, **self.gap.named("gap")}


def measured_members(pairs: JudgedPairs) -> Members | None:
    """The members of an ensemble; None of a single judge."""
    if pairs.by_member.shape[1] < 2:
        return None
    each = accuracy(pairs.by_member)
    signs = np.sign(pairs.by_member)
    split = (signs != signs[:, :1]).any(1)
    return Members(
        accuracies=tuple(share_interval(one, pairs.prompt) for one in each.T),
        gain=paired_difference(pairs.right, each.mean(1), pairs.prompt),
        united=share_interval(pairs.right[~split], pairs.prompt[~split]),
        divided=share_interval(pairs.right[split], pairs.prompt[split]),
        gap=difference_interval(pairs.right, split, pairs.prompt),
    )
