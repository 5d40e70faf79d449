"""SPPO: regression on how likely an answer beats the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta
from backflip.algorithms.preference.base import ComparedLogps, DirectObjective
from backflip.algorithms.ranges import Usual
from backflip.data.batches import ComparisonBatch
from backflip.functional.preference_losses import sppo
from backflip.functional.reward_losses import prompt_mean

__all__ = ["SPPO"]


@dataclass(frozen=True, kw_only=True)
class SPPO(DirectObjective):
    """(log π/π_ref(y) − η·(P(y beats π_ref) − ½))² of both answers (Wu et al., 2024, §4), η = 1/β.

    The reference is the policy of the round before; P is estimated from n samples by a preference
    model and comes with the data. Without estimates it is the share of the other answers that y
    beats, 1 and 0 for a pair (the form that TRL has as ``sppo_hard``). Twice the mean over the K
    answers of a prompt, for a pair their sum; tied answers are asked to stay where they are.
    """

    title: ClassVar[str] = "SPPO"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"win"})
    learns_ties: ClassVar[bool] = True
    separated: ClassVar[float] = 0.9
    """Nine tenths of the target of a pair that is won for certain, 1 in units of the reward."""
    beta: Annotated[Beta, Usual(1e-4, 1e-2, "0.001, an η of 1,000 (Wu et al., 2024)")] = 1e-3
    """1/η; the paper's η is 1,000."""

    def per_prompt(self, told: ComparedLogps, batch: ComparisonBatch) -> Float[Tensor, " B"]:
        per_answer = sppo(told.ratio, told.win, beta=self.beta)
        return 2 * prompt_mean(per_answer, told.prompt, prompts=len(batch))
