"""A process reward model as a source of reward: a reward where each step of an answer ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from backflip.data.batches import Rollouts
from backflip.data.chat import ChatTemplate
from backflip.models.process import ProcessModel
from backflip.reward.protocol import Judgement

__all__ = ["Form", "ProcessReward"]

Form: TypeAlias = Literal["score", "gain", "mean"]


@dataclass(frozen=True, kw_only=True)
class ProcessReward:
    """P(good) of the steps of answers, placed where they end; the score is their sum.

    ``score``: each step's P(good), as GRPO's process form takes it (Shao et al., 2024); in a sum of
    rewards this pays for writing more steps. ``gain``: what a step changes, p_k − p_{k−1} with
    p_0 = 0, whose sum is the last step's (potential-based shaping: Ng et al., 1999). ``mean``:
    P(good) over the number of steps. A last step that the length limit
    cut off is judged where it ends.
    """

    model: ProcessModel
    template: ChatTemplate
    """That of the policy whose tokens are judged."""
    form: Form = "score"
    token_budget: int = 4096

    def __call__(self, rollouts: Rollouts) -> Judgement:
        finder, steps = self.model.finder(self.template), rollouts.steps
        ends = [finder.ends(row.tolist()) for row in steps.answer.rows()]
        said = self.model.estimates(steps, ends, self.token_budget)
        rewards = torch.zeros(rollouts.mask.shape)
        ended = torch.zeros_like(rollouts.mask)
        for row, (places, good) in enumerate(zip(ends, said, strict=True)):
            for place, reward in zip(places, self._rewards(good), strict=True):
                at = _chosen(rollouts.mask[row], place)
                rewards[row, at] += reward
                ended[row, at] = True
        parts = {
            "steps": torch.tensor([float(len(places)) for places in ends]),
            "weakest": torch.tensor([min(good, default=0.0) for good in said]),
        }
        return Judgement(rewards.sum(-1), parts, rewards, ends=ended)

    def _rewards(self, good: list[float]) -> list[float]:
        if self.form == "gain":
            return [p - before for before, p in zip([0.0, *good], good, strict=False)]
        return [p / len(good) for p in good] if self.form == "mean" else good


def _chosen(mask: torch.Tensor, place: int) -> int:
    """The policy's last choice at or before a place; the place itself where there is none."""
    before = mask[: place + 1].nonzero()
    return int(before[-1]) if len(before) else place
