"""Interfaces of algorithms: objectives, which a learner minimises, and their outcomes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.ranges import Usual, Within
from backflip.data.batches import Experience, Scored
from backflip.functional.reductions import Loss

Batch = TypeVar("Batch")
Epochs = Annotated[
    int,
    Within(1.0, math.inf, "they are passes over the answers"),
    Usual(1.0, 4.0, "4 (Ziegler et al., 2019) down to 1 (InstructGPT)"),
]


@dataclass(frozen=True)
class Outcome:
    """Losses and metrics that one piece of a batch contributes to a step."""

    losses: Mapping[str, Loss]
    """Terms to minimise. Each is divided by its own denominator, then they are added."""
    metrics: Mapping[str, Loss] = field(default_factory=dict[str, Loss])
    """Numbers to watch, detached, in the same undivided form."""


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """Anything a learner can minimise: SFT, reward modelling, DPO, PPO."""

    title: ClassVar[str]
    """The name that people read; the name in a recipe is that of the file."""
    rates: ClassVar[tuple[float, float] | None] = None
    """Learning rates (with LoRA, for all weights) where others than the stage's are asked for."""

    def prepare(self, model: Any, batch: Batch, token_budget: int) -> Batch:
        """The batch with what its rows must know of the whole of it, before it is cut.

        Called once in every optimiser step, without a graph: KTO stamps its KL here.
        """
        del model, token_budget
        return batch

    @abstractmethod
    def counts(self, batch: Any) -> Mapping[str, Float[Tensor, ""]]:
        """The denominator of each term over the whole batch, known before any forward pass."""

    @abstractmethod
    def loss(self, model: Any, batch: Any) -> Outcome:
        """Losses and metrics of ``model`` on a piece of the batch, undivided."""

    def adapted(self, metrics: Mapping[str, float]) -> Objective:
        """The objective for the next step: where an adaptive coefficient moves."""
        del metrics
        return self


@dataclass(frozen=True, kw_only=True)
class OnlineAlgorithm(Objective):
    """An objective that also assigns credit: advantages from scores."""

    values_from: ClassVar[tuple[str, ...]] = ("none",)
    """Sources of values that it can learn with, by their names; the first is the default."""
    on_policy: ClassVar[bool] = False
    """Whether it is right for a single optimiser step on each round's answers alone."""
    corrects_sampler: ClassVar[bool] = False
    """Whether its ratio is to the sampler itself, so that no correction may weigh choices too."""
    of_tokens: ClassVar[bool] = False
    """Whether it learns from a reward of each token, and little from one of the whole answer."""
    epochs: Epochs = 1
    """Passes over each batch of experience."""

    def faults(self, answers: int, where: str) -> Iterator[str]:
        """Sentences on why it cannot learn from ``answers`` per prompt, the setting ``where``."""
        del answers, where
        return iter(())

    @abstractmethod
    def credit(self, scored: Scored) -> Experience:
        """Assign advantages. Sees the whole batch, gathered from every rank."""

    def adapted(self, metrics: Mapping[str, float]) -> OnlineAlgorithm:
        return self

    def enough(self, metrics: Mapping[str, float]) -> bool:
        """Whether these metrics of a minibatch say to stop learning from this experience."""
        return False
