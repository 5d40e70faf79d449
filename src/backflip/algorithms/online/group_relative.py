"""GRPO's credit: an answer is as good as it is better than its siblings (Shao et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from backflip.algorithms.online.kl_penalty import KLPenalty
from backflip.data.batches import Experience, Scored
from backflip.functional.group_credit import group_relative

__all__ = ["GroupRelative"]


@dataclass(frozen=True, kw_only=True)
class GroupRelative(KLPenalty):
    """Advantage = (reward − mean of the siblings) / their deviation, on every token of an answer.

    Answers that all score the same teach nothing. An answer without siblings is refused.
    """

    divide_by_std: bool = True
    """Divide by the deviation of the siblings; without, advantages are Dr. GRPO's."""

    def faults(self, answers: int, where: str) -> Iterator[str]:
        if answers < 2:
            yield (
                f"{where} is {answers}: {self.title} compares an answer with others to its prompt. "
                f"Set {where}=8."
            )

    def credit(self, scored: Scored) -> Experience:
        r = scored.rollouts
        relative = group_relative(self.scores(scored), r.group, divide_by_std=self.divide_by_std)
        advantages = torch.where(r.mask, relative[:, None], 0.0)
        return Experience(scored, advantages, torch.zeros_like(advantages))
