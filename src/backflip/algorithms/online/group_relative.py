"""Credit that several online algorithms share: of whole answers, of answers over their siblings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.kl_penalty import KLPenalty
from backflip.data.batches import Experience, Scored
from backflip.functional.group_credit import group_relative

__all__ = ["GroupRelative", "OverSiblings", "Siblings", "WholeAnswer"]


@dataclass(frozen=True, kw_only=True)
class WholeAnswer(KLPenalty):
    """An answer is one action: each of its tokens has its advantage."""

    @abstractmethod
    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        """The advantage of each answer."""

    def credit(self, scored: Scored) -> Experience:
        mask = scored.rollouts.mask
        advantages = torch.where(mask, self.of_answers(scored)[:, None], 0.0)
        return Experience(scored, advantages, torch.zeros_like(advantages))


@dataclass(frozen=True, kw_only=True)
class Siblings(KLPenalty):
    """The baseline is the other answers to the prompt: an answer without siblings is refused."""

    def faults(self, answers: int, where: str) -> Iterator[str]:
        if answers < 2:
            yield (
                f"{where} is {answers}: {self.title} compares an answer with others to its prompt. "
                f"Set {where}=8."
            )


@dataclass(frozen=True, kw_only=True)
class OverSiblings(Siblings, WholeAnswer):
    """The advantage of an answer, on each of its tokens, comes from comparing it with siblings."""


@dataclass(frozen=True, kw_only=True)
class GroupRelative(OverSiblings):
    """Advantage = (reward − mean of the siblings) / their deviation, on every token of an answer.

    Answers that all score the same teach nothing (GRPO: Shao et al., 2024, §4.1.2).
    """

    divide_by_std: bool = True
    """Divide by the deviation of the siblings; without, advantages are Dr. GRPO's."""

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        scores, group = self.scores(scored), scored.rollouts.group
        return group_relative(scores, group, divide_by_std=self.divide_by_std)
