"""Base of the objectives of the direct family: how likely policy and reference hold
each answer to be, and the pairs among the answers of a prompt.

The implicit reward of an answer is β·log π(y|x)/π_ref(y|x) up to a constant of the prompt (Rafailov
et al., 2023, eq. 5): that makes every direct objective a reward-model objective on other scores.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backflip.algorithms.base import Objective, Outcome
from backflip.algorithms.preference.answers import (
    AnswerLogps,
    DPOBeta,
    NLLCoef,
    means,
    moments,
    read,
)
from backflip.algorithms.reward.base import prompts_with_a_winner
from backflip.data.batches import ComparisonBatch
from backflip.data.records import Comparison
from backflip.data.referenced import ReferencedComparisons
from backflip.functional.reductions import Loss, weighted_mean
from backflip.functional.reward_losses import decided_pairs, prompt_mean

Preferences = ComparisonBatch | ReferencedComparisons
"""Batches of the direct family; objectives without a reference take the plain comparisons."""
SEPARATED = math.log(9)
"""A pair is separated where its margin is above this, σ of it 0.9: it has little left to teach."""


@dataclass(frozen=True)
class ComparedLogps(AnswerLogps):
    """Log-probabilities of N answers to B prompts under policy and reference, with their labels."""

    rank: Int[Tensor, " N"]
    win: Float[Tensor, " N"]
    prompt: Int[Tensor, " N"]
    margin: Float[Tensor, " N"]
    """Of the prompt: how far apart its label calls for, at least 0."""
    soft: Float[Tensor, " N"]
    """Of the prompt: P(its label is right)."""

    def smoothed(self, label_smoothing: float) -> Float[Tensor, " N"]:
        """P(the label is right) where besides each label is turned round so often."""
        return self.soft * (1 - label_smoothing) + (1 - self.soft) * label_smoothing


@dataclass(frozen=True, kw_only=True)
class DirectObjective(Objective):
    """Learns from comparisons without a reward model. A subclass says what a prompt costs."""

    learns_from: ClassVar[type[Comparison]] = Comparison
    needs_reference: ClassVar[bool] = True
    reference_moves: ClassVar[bool] = False
    """Whether the reference follows the policy while it learns."""
    combines: ClassVar[bool] = True
    """Whether a mixture may hold it as a term."""
    learns_ties: ClassVar[bool] = False
    """Whether tied answers say something to it."""
    uses_labels: ClassVar[frozenset[str]] = frozenset()
    """Parts of a label used besides the winner: "soft", "margin", "win" (see ComparisonBatch)."""
    separated: ClassVar[float] = SEPARATED
    """The margin, a difference of rewards, above which a pair has little left to teach."""
    beta: DPOBeta = 0.1
    """How tightly the policy is held; the scale of the implicit reward."""
    nll_coef: NLLCoef = 0.0
    """Weight of the negative log-likelihood of the best answer, in nats a token, beside the
    preference: RPO's term (Pang et al., 2024, eq. 1, who average within each answer, where this is
    a mean over all tokens); Llama 3.1 takes 0.2."""

    def noise(self, batch_size: int) -> str:
        """A warning where a batch of so many rows is too small for an estimate; "" if none."""
        del batch_size
        return ""

    @abstractmethod
    def per_prompt(self, told: ComparedLogps, batch: ComparisonBatch) -> Float[Tensor, " B"]:
        """The loss of each prompt of ``batch``, from the log-probabilities of its answers."""

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        """The implicit reward of each answer, by which pairs are ordered."""
        return self.beta * told.ratio

    def implicit_reward(self, told: ComparedLogps) -> Float[Tensor, " N"] | None:
        """The implicit reward of each answer, to be held against its length; None where
        it follows from the length before anything is learnt.
        """
        return self.reward(told)

    @property
    def nll_weight(self) -> float:
        """The weight of the negative log-likelihood in all."""
        return self.nll_coef

    def preference_counts(self, rows: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        """The denominator of each of ``preferences``."""
        return {"preference": (self._says(rows) * rows.weight).sum()}

    def preferences(self, told: ComparedLogps, rows: ComparisonBatch) -> dict[str, Loss]:
        """Losses beside the likelihood; ``Mixture`` has a term for each part."""
        weight = (self._says(rows) * rows.weight).to(told.logp)
        return {"preference": weighted_mean(self.per_prompt(told, rows), weight)}

    def counts(self, batch: Preferences) -> Mapping[str, Float[Tensor, ""]]:
        rows = comparisons_of(batch)
        best = rows.imitated.values * _best(rows)[:, None]
        return {**self.preference_counts(rows), "nll": best.sum()}

    def loss(self, model: Any, batch: Preferences) -> Outcome:
        """Every answer is read once.

        Raises ValueError for comparisons without a reference where the objective needs one.
        """
        rows = comparisons_of(batch)
        if self.needs_reference and not isinstance(batch, ReferencedComparisons):
            raise ValueError(
                f"{type(self).__name__} compares with a reference policy, but these comparisons "
                "come without its log-probabilities. Give ReferencedComparisons, or take an "
                "objective that needs no reference (SimPO, ORPO, CPO, SLiC)."
            )
        logp = model.evaluate(rows.answers.values)["logp"]
        told = tell(logp, batch)
        losses = self.preferences(told, rows)
        metrics = {"loss": _together(losses)} | self._metrics(told)
        if self.nll_weight:
            own = (rows.imitated.values * _best(rows)[:, None]).to(logp)
            nll = weighted_mean(-logp, own)
            losses["nll"] = nll.scaled(self.nll_weight)
            metrics["nll"] = nll.detached()
        return Outcome(losses, metrics)

    def _says(self, rows: ComparisonBatch) -> Float[Tensor, " B"]:
        """1 for each prompt that this objective learns from."""
        return torch.ones_like(rows.weight) if self.learns_ties else prompts_with_a_winner(rows)

    @torch.no_grad()
    def _metrics(self, told: ComparedLogps) -> dict[str, Loss]:
        found = preference_metrics(told, self.reward(told), separated=self.separated)
        implicit_reward = self.implicit_reward(told)
        found |= {} if implicit_reward is None else moments(implicit_reward.detach(), told.length)
        if self.needs_reference:
            return found
        return {name: value for name, value in found.items() if "change" not in name}


@dataclass(frozen=True, kw_only=True)
class PairObjective(DirectObjective):
    """A direct objective that looks at two answers at a time: all decided pairs of a prompt.

    Margins and soft labels are used where ``uses_labels`` says so; the others take every label of a
    decided pair for certain.
    """

    @abstractmethod
    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        """The loss of each of P pairs of answers to the same prompt; the first was preferred."""

    def per_prompt(self, told: ComparedLogps, batch: ComparisonBatch) -> Float[Tensor, " B"]:
        pairs = decided_pairs(told.rank, told.prompt)
        losses = self.per_pair(told[pairs.better], told[pairs.worse])
        return prompt_mean(losses, pairs.prompt, prompts=len(batch))


@dataclass(frozen=True, kw_only=True)
class ReferenceFree(PairObjective):
    """Looks at pairs, and at log-likelihoods in the place of log-ratios."""

    needs_reference: ClassVar[bool] = False

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.beta * told.logp

    def implicit_reward(self, told: ComparedLogps) -> Float[Tensor, " N"] | None:
        return None


def comparisons_of(batch: Preferences) -> ComparisonBatch:
    """The plain comparisons of a batch, with or without a reference."""
    return batch.comparisons if isinstance(batch, ReferencedComparisons) else batch


def tell(logp: Float[Tensor, "N T"], batch: Preferences) -> ComparedLogps:
    """Log-probabilities of every answer of ``batch``, given the policy's ``logp`` of its tokens."""
    rows, on = comparisons_of(batch), logp.device
    known = batch.logp_ref.values if isinstance(batch, ReferencedComparisons) else None
    answers, owner = read(logp, rows.mask.values, known), rows.answers.owner()
    return ComparedLogps(
        answers.logp,
        answers.logp_ref,
        answers.length,
        rank=rows.rank.values.to(on),
        win=rows.win.values.to(on),
        prompt=owner.to(on),
        margin=rows.margin[owner].to(answers.logp),
        soft=rows.soft[owner].to(answers.logp),
    )


@torch.no_grad()
def preference_metrics(
    told: ComparedLogps, reward: Float[Tensor, " N"], *, separated: float = SEPARATED
) -> dict[str, Loss]:
    """Metrics of every step of the direct family; each a mean over pairs or answers.

    ``logp_change_chosen``: log π/π_ref of the preferred answers; below 0 the policy holds them less
    likely than the reference did (likelihood displacement: Razin et al., 2024). ``separated``: the
    share of pairs whose margin is above the number of that name.
    """
    pairs = decided_pairs(told.rank, told.prompt)
    better, worse = told[pairs.better], told[pairs.worse]
    delta = reward[pairs.better] - reward[pairs.worse]
    return means(
        accuracy=(delta > 0).to(delta),
        margin=delta,
        separated=(delta > separated).to(delta),
        reward_chosen=reward[pairs.better],
        reward_rejected=reward[pairs.worse],
        logp_chosen=better.logp,
        logp_rejected=worse.logp,
        logp_change_chosen=better.ratio,
        logp_change_rejected=worse.ratio,
        length_chosen=better.length,
        length_rejected=worse.length,
    )


def _together(losses: Mapping[str, Loss]) -> Loss:
    """The terms as one number to watch, over what the first of them counts."""
    first, *others = (loss.detached() for loss in losses.values())
    return Loss(first.total + sum(loss.total for loss in others), first.count)


def _best(rows: ComparisonBatch) -> Float[Tensor, " N"]:
    """The weight of its prompt for each answer of rank 0 (shared out among equals), else 0."""
    best = (rows.rank.values == 0).to(rows.weight)
    owner = rows.answers.owner()
    equals = torch.zeros_like(rows.weight).index_add(0, owner, best)
    return best * (rows.weight / equals.clamp(min=1))[owner]
