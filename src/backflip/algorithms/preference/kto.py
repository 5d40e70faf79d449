"""KTO: answers are gains or losses, measured from how far the policy has already moved."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.unpaired import LabelledLogps, UnpairedObjective
from backflip.algorithms.ranges import Within
from backflip.data.batches import TokenSteps
from backflip.data.referenced import ReferencedLabels
from backflip.distributed.reading import read_in_parts
from backflip.functional.unpaired_losses import kto, mismatched_kl

__all__ = ["ADVISED", "KTO"]

Weight = Annotated[float, Within(0.0, math.inf, "it weighs a loss")]
ADVISED = (1.0, 3 / 2)
"""Where λ_D·n_D/(λ_U·n_U) should lie, as the authors advise (Ethayarajh et al., 2024, eq. 9; up to
4/3 in the first version)."""

LEAST_ROWS = 8
"""Of a batch, for an estimate of the KL."""


@dataclass(frozen=True, kw_only=True)
class KTO(UnpairedObjective):
    """λ_D·(1 − σ(β(r − z₀))) good, λ_U·(1 − σ(β(z₀ − r))) bad (Ethayarajh et al., 2024, §4.1).

    r is log π/π_ref of the answer, z₀ the KL of policy and reference, estimated once a step from
    mismatched answers over the whole batch before it is cut; no gradient flows through it. Small
    batches estimate it badly: the authors advise 8 rows or more.
    """

    title: ClassVar[str] = "KTO"
    rates: ClassVar[tuple[float, float] | None] = (5e-5, 5e-6)
    """Its gradients are small (Ethayarajh et al., 2024: 5e-6, which is 2 to 10 times DPO's)."""
    needs_mismatched: ClassVar[bool] = True
    desirable_weight: Weight = 1.0
    """λ_D: how much a good answer counts. Raise it where good answers are rare."""
    undesirable_weight: Weight = 1.0
    """λ_U: how much a bad answer counts. Raise it where bad answers are rare."""

    @torch.no_grad()
    def prepare(self, model: Any, batch: Any, token_budget: int) -> Any:
        """Stamp every row with z₀ of the whole batch: one more reading of it, without a graph."""
        rows: ReferencedLabels = batch
        weight = rows.labelled.weight.cpu()
        ratio = _mismatched_logp(model, rows, token_budget) - rows.mismatched_ref.cpu()
        kl = mismatched_kl(ratio, weight).expand(len(rows)).clone()
        return dataclasses.replace(rows, kl=kl.to(rows.kl))

    def per_answer(self, judged: LabelledLogps) -> Float[Tensor, " B"]:
        return kto(
            judged.ratio,
            judged.label,
            judged.kl,
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )

    def imbalance(self, good: float | int, bad: float | int) -> str:
        """A warning where λ_D·n_D/(λ_U·n_U) lies outside of ``ADVISED``; "" if it lies within."""
        desirable, undesirable = self.desirable_weight, self.undesirable_weight
        if not good or not bad or undesirable == 0 or desirable == 0:
            return (
                f"KTO learns from good and from bad answers; {good:g} good and {bad:g} bad ones "
                "count"
            )
        ratio, (low, high) = desirable * good / (undesirable * bad), ADVISED
        if low * (1 - 1e-6) <= ratio <= high * (1 + 1e-6):
            return ""
        if ratio < low:
            name, value = "desirable_weight", desirable * low / ratio
        else:
            name, value = "undesirable_weight", undesirable * ratio / high
        return (
            f"{good:g} good answers at {desirable:g} weigh {ratio:.2f} × {bad:g} bad ones at "
            f"{undesirable:g}; KTO's authors advise {low:g} to {high:g}: set {name}={value:.3g}"
        )

    def noise(self, batch_size: int) -> str:
        if batch_size >= LEAST_ROWS:
            return ""
        return (
            "KTO's KL is estimated within a batch, and over fewer than "
            f"{LEAST_ROWS} rows it is mostly noise (Ethayarajh et al., 2024)"
        )

    def origin(self, judged: LabelledLogps) -> Float[Tensor, " B"]:
        return self.beta * judged.kl


def _mismatched_logp(model: Any, rows: ReferencedLabels, budget: int) -> Float[Tensor, " B"]:
    """Log π of the answer to another prompt, for every row: Σ over its own tokens, in nats."""
    steps, mask = rows.labelled.mismatched, rows.labelled.mismatched_mask
    total = torch.zeros(len(rows))

    def read(piece: TokenSteps) -> Float[Tensor, "b T"]:
        return model.evaluate(piece.to(model.device))["logp"]

    for chosen, logp in read_in_parts(model, steps, budget, read):
        total[chosen] = torch.where(mask[chosen], logp, 0.0).sum(-1).float()
    return total
