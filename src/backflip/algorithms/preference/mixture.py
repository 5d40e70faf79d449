"""Several direct objectives at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta
from backflip.algorithms.preference.base import ComparedLogps, DirectObjective
from backflip.data.batches import ComparisonBatch
from backflip.functional.reductions import Loss

__all__ = ["Mixture"]


@dataclass(frozen=True, kw_only=True)
class Mixture(DirectObjective):
    """Σ_k w_k · term k, on one reading of the answers. RPO is DPO and ``nll_coef`` (Pang, 2024).

    Each term is averaged over the prompts that it learns from, as if it were alone, and keeps its
    own β; the NLL of the terms is weighted with them and added to that of the mixture. Rewards and
    accuracy are those of the first term. The β of the mixture itself has no meaning.
    """

    title: ClassVar[str] = "Mixture"
    combines: ClassVar[bool] = False
    beta: Beta = 0.1
    terms: tuple[DirectObjective, ...]
    """The objectives that are added, each with settings of its own."""
    weights: tuple[float, ...]
    """One for each term."""

    @property
    def needs_reference(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(term.needs_reference for term in self.terms)

    @property
    def learns_ties(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(term.learns_ties for term in self.terms)

    @property
    def uses_labels(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return frozenset[str]().union(*(term.uses_labels for term in self.terms))

    @property
    def separated(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.terms[0].separated

    @property
    def nll_weight(self) -> float:
        parts = zip(self.weights, self.terms, strict=True)
        return self.nll_coef + sum(weight * term.nll_weight for weight, term in parts)

    def reward(self, told: ComparedLogps) -> Float[Tensor, " N"]:
        return self.terms[0].reward(told)

    def implicit_reward(self, told: ComparedLogps) -> Float[Tensor, " N"] | None:
        return self.terms[0].implicit_reward(told)

    def preference_counts(self, rows: ComparisonBatch) -> Mapping[str, Float[Tensor, ""]]:
        return {
            f"{name}_{number}": count
            for number, term in enumerate(self.terms)
            for name, count in term.preference_counts(rows).items()
        }

    def preferences(self, told: ComparedLogps, rows: ComparisonBatch) -> dict[str, Loss]:
        return {
            f"{name}_{number}": loss.scaled(weight)
            for number, (weight, term) in enumerate(zip(self.weights, self.terms, strict=True))
            for name, loss in term.preferences(told, rows).items()
        }

    def per_prompt(self, told: ComparedLogps, batch: ComparisonBatch) -> Float[Tensor, " B"]:
        parts = zip(self.weights, self.terms, strict=True)
        losses = [weight * term.per_prompt(told, batch) for weight, term in parts]
        return torch.stack(losses).sum(0)
