"""RAFT++: imitation of one's own right answers, with a ratio and a clip (Xiong et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from backflip.algorithms.online.group_relative import WholeAnswer
from backflip.algorithms.online.policy_loss import AsymmetricClip, Reduction
from backflip.data.batches import Experience, Scored

__all__ = ["RAFTPP"]


@dataclass(frozen=True, kw_only=True)
class RAFTPP(WholeAnswer, AsymmetricClip):
    """Only answers with a reward above 0 are learnt from, all alike (2504.11343).

    Rejection sampling whose later steps on the same answers are weighed by the clipped ratio. It
    divides by what it learns from: answers that are left out make the others no smaller.
    """

    title: ClassVar[str] = "RAFT++"

    reduction: Reduction = "sequence_mean"
    """Within each answer, then over answers; or over all tokens of the batch (``token_mean``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_kl_in_loss("takes answers by the sign of their reward")

    def of_answers(self, scored: Scored) -> Float[Tensor, " B"]:
        return (scored.total() > 0).float()

    def learnt(self, batch: Experience) -> Bool[Tensor, "B T"]:
        return super().learnt(batch) & (batch.advantages > 0)
