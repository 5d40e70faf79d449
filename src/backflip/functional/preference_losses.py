"""What a policy learns from preferences without a reward model, per pair or per answer.

``delta`` is log π/π_ref of the preferred answer minus that of the other, in nats.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from backflip.functional.reward_losses import bradley_terry


def dpo(
    delta: Float[Tensor, "*shape"],
    *,
    beta: float,
    margin: Float[Tensor, "*shape"] | float = 0.0,
    soft: Float[Tensor, "*shape"] | float = 1.0,
) -> Float[Tensor, "*shape"]:
    """−log σ(β·delta − margin): Bradley-Terry on implicit rewards (Rafailov et al., 2023, eq. 7).

    ``soft`` is P(the label is right): cross-entropy, or cDPO where it is 1 − ε for all pairs
    (Mitchell, 2023). ``margin`` is ODPO's offset (Amini et al., 2024, eq. 8).
    """
    return bradley_terry(beta * delta, margin, soft)
