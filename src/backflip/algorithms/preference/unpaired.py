"""Base of the objectives of unpaired feedback: single answers, each called good or bad.

All of them ask whether the implicit reward β·log π/π_ref lies on the right side of a shift.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.algorithms.preference.answers import AnswerLogps, DPOBeta, means, moments, read
from backflip.data.records import Labelled
from backflip.data.referenced import ReferencedLabels
from backflip.functional.reductions import Loss, weighted_mean


@dataclass(frozen=True)
class LabelledLogps(AnswerLogps):
    """Log-probabilities of B labelled answers under policy and reference."""

    label: Bool[Tensor, " B"]
    """True where the answer was judged good."""
    weight: Float[Tensor, " B"]
    kl: Float[Tensor, " B"]
    """KL(π‖ref) over the whole batch in nats an answer, as stamped by ``prepare``; else 0."""


@dataclass(frozen=True, kw_only=True)
class UnpairedObjective(Objective):
    """Learns from thumbs up and down without a reward model. A subclass says what one costs."""

    learns_from: ClassVar[type[Labelled]] = Labelled
    reference_moves: ClassVar[bool] = False
    learns_ties: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = True
    needs_mismatched: ClassVar[bool] = False
    """Whether it looks at answers to other prompts, which the reference must then read too."""
    beta: DPOBeta = 0.1
    """How tightly the policy is held; the scale of the implicit reward."""

    def imbalance(self, good: float | int, bad: float | int) -> str:
        """A warning where good and bad answers weigh so much in all by their rows; "" if none."""
        del good, bad
        return ""

    def noise(self, batch_size: int) -> str:
        """A warning where a batch of so many rows is too small for an estimate; "" if none."""
        del batch_size
        return ""

    @abstractmethod
    def per_answer(self, judged: LabelledLogps) -> Float[Tensor, " B"]:
        """The loss of each answer."""

    @abstractmethod
    def origin(self, judged: LabelledLogps) -> Float[Tensor, " B"]:
        """The implicit reward that a good answer should exceed and a bad one stay below."""

    def counts(self, batch: ReferencedLabels) -> Mapping[str, Float[Tensor, ""]]:
        return {"preference": batch.labelled.weight.sum()}

    def loss(self, model: Any, batch: ReferencedLabels) -> Outcome:
        judged = judge(model.evaluate(batch.labelled.steps)["logp"], batch)
        preference = weighted_mean(self.per_answer(judged), judged.weight)
        reward = self.beta * judged.ratio.detach()
        watched = unpaired_metrics(judged, reward, self.origin(judged))
        if self.needs_mismatched:
            watched |= means(kl=judged.kl)
        return Outcome({"preference": preference}, {"loss": preference.detached(), **watched})


def judge(logp: Float[Tensor, "B T"], batch: ReferencedLabels) -> LabelledLogps:
    """Log-probabilities of every answer of ``batch``, given the policy's ``logp`` of its tokens."""
    rows, on = batch.labelled, logp.device
    answers = read(logp, rows.mask, batch.logp_ref)
    return LabelledLogps(
        answers.logp,
        answers.logp_ref,
        answers.length,
        label=rows.label.to(on),
        weight=rows.weight.to(logp),
        kl=batch.kl.to(logp),
    )


@torch.no_grad()
def unpaired_metrics(
    judged: LabelledLogps, reward: Float[Tensor, " B"], origin: Float[Tensor, " B"]
) -> dict[str, Loss]:
    """Metrics of every step, each a mean over answers, named as for pairs.

    ``…_chosen`` is the mean over good answers and ``…_rejected`` over bad ones. ``accuracy`` is the
    share of answers whose implicit reward lies on the right side of ``origin``; ``good`` is the
    share of good answers. ``logp_change_chosen`` below 0 says that the policy holds good answers
    less likely than the reference did.
    """
    right = torch.where(judged.label, reward > origin, reward < origin)
    watched = means(accuracy=right.to(reward), good=judged.label.to(reward))
    for side, rows in (("chosen", judged.label), ("rejected", ~judged.label)):
        kind = judged[rows]
        numbers = {
            "reward": reward[rows],
            "logp": kind.logp,
            "logp_change": kind.ratio,
            "length": kind.length,
        }
        watched |= means(**{f"{name}_{side}": value for name, value in numbers.items()})
    return watched | moments(reward, judged.length)
