"""Log-probabilities of an answer under policy and reference, on which every objective without a
reward model stands. The implicit reward is β·log π/π_ref, up to a constant of the prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.algorithms.ranges import Usual, Within
from backflip.data.ragged import TensorRecord
from backflip.functional.reductions import Loss

Beta = Annotated[float, Within(0.0, math.inf, "at 0 preferences have no weight", open=True)]
"""Scale of the implicit reward."""
DPOBeta = Annotated[Beta, Usual(0.01, 0.5, "0.01 to 0.5, mostly 0.1 (Rafailov et al., 2023)")]
"""The same with the meaning that it has in DPO."""
Smoothing = Annotated[
    float,
    Within(-1e-9, 0.5, "from a half on, labels say the opposite", open=True),
    Usual(0.0, 0.3, "0.1 to 0.3 where labels are noisy"),
]
"""P(a label is wrong)."""
NLLCoef = Annotated[
    float,
    Within(0.0, math.inf, "it weighs a loss"),
    Usual(0.0, 1.0, "0.2 (Llama 3.1) to 1 (Pang et al., 2024)"),
]
"""Weight of a likelihood beside the preference."""


@dataclass(frozen=True)
class AnswerLogps(TensorRecord):
    """Log-probabilities of N answers under policy and reference."""

    logp: Float[Tensor, " N"]
    """log π(y|x): Σ over the answer's own tokens, in nats. The only field with a gradient."""
    logp_ref: Float[Tensor, " N"]
    """The same under the reference; 0 for an objective without one."""
    length: Float[Tensor, " N"]
    """The answer's own tokens, its end included."""

    @property
    def ratio(self) -> Float[Tensor, " N"]:
        """Log π/π_ref, in nats an answer."""
        return self.logp - self.logp_ref

    @property
    def mean_logp(self) -> Float[Tensor, " N"]:
        """Log π(y|x) in nats a token."""
        return self.logp / self.length

    @property
    def mean_ratio(self) -> Float[Tensor, " N"]:
        """Log π/π_ref in nats a token."""
        return self.ratio / self.length


def read(
    logp: Float[Tensor, "N T"], mask: Bool[Tensor, "N T"], logp_ref: Float[Tensor, " N"] | None
) -> AnswerLogps:
    """Answers out of the policy's ``logp`` of their tokens; ``mask`` marks the own ones."""
    mask = mask.to(logp.device)
    total = torch.where(mask, logp, 0.0).sum(-1)
    reference = torch.zeros_like(total) if logp_ref is None else logp_ref.to(total)
    return AnswerLogps(total, reference, mask.sum(-1).clamp(min=1).to(total.dtype))


def means(**values: Float[Tensor, " P"]) -> dict[str, Loss]:
    """Numbers to watch, each a mean over its rows."""
    return {
        name: Loss(value.detach().sum(), value.new_tensor(float(len(value))))
        for name, value in values.items()
    }


def moments(reward: Float[Tensor, " N"], length: Float[Tensor, " N"]) -> dict[str, Loss]:
    """Means from which the monitor makes the correlation of reward and length."""
    x, y = reward.double(), length.double()
    return means(
        moment_reward=x,
        moment_length=y,
        moment_reward_2=x * x,
        moment_length_2=y * y,
        moment_reward_length=x * y,
    )
