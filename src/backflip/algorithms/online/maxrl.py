"""MaxRL: towards the likelihood of a right answer (Tajwar et al., 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.online.group_relative import OverSiblings
from backflip.algorithms.online.on_policy import OnPolicy
from backflip.data.batches import Scored
from backflip.errors import UserError
from backflip.functional.group_credit import max_likelihood

__all__ = ["MaxRL"]


@dataclass(frozen=True, kw_only=True)
class MaxRL(OverSiblings, OnPolicy):
    """Advantage = (reward − mean)/mean of the siblings: hard prompts weigh as 1/P(right).

    (2602.02710.) For rewards of 0 and 1, or others that are not negative; where no
    answer scores, nothing is learnt.
    """

    title: ClassVar[str] = "MaxRL"
    from_zero: ClassVar[bool] = True
    """Negative scores are refused: before anything is loaded, where settings can make some."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_kl_in_loss("divides by the mean score, which a KL would take below 0")

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        scores = self.scores(scored)
        if negative := int((scores < 0).sum()):
            raise UserError(
                f"MaxRL divides by the mean score of a prompt's answers, and {negative} of "
                f"{len(scores)} scores are negative, the lowest {float(scores.min()):g}. Score "
                "from 0 up, and set shaping.missing_eos=0."
            )
        return max_likelihood(scores, scored.rollouts.group)
