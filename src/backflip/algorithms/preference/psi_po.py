"""ΨPO: what DPO and IPO are both cases of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.preference.answers import Beta, Smoothing
from backflip.algorithms.preference.base import ComparedLogps, PairObjective
from backflip.algorithms.ranges import Usual
from backflip.errors import UserError
from backflip.functional.preference_losses import psi_po

__all__ = ["PsiPO"]

PSI: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda p: p, "logit": torch.logit}


@dataclass(frozen=True, kw_only=True)
class PsiPO(PairObjective):
    """(Difference of the log-ratios − [Ψ(p) − Ψ(1 − p)]/(2β))² (Azar et al., 2023, eq. 6).

    p is P(the better answer wins): the soft label of the data, smoothed. Exact where an answer is
    compared with the two of its pair, either as likely. ``identity`` is IPO (the form of
    ``IPOSum``); ``logit`` is regression on the margin where DPO's optimum lies, logit(p)/β, which
    is infinite for a label that is certain.
    """

    title: ClassVar[str] = "ΨPO"
    uses_labels: ClassVar[frozenset[str]] = frozenset({"soft"})
    beta: Annotated[Beta, Usual(0.01, 1.0, "0.1 to 1 (Azar et al., 2023)")] = 0.1
    psi: Literal["identity", "logit"] = "identity"
    """Ψ, what a win probability is worth."""
    label_smoothing: Smoothing = 0.0
    """P(a label is wrong), the same for all."""

    def per_pair(self, better: ComparedLogps, worse: ComparedLogps) -> Float[Tensor, " P"]:
        """Raises UserError where ``psi`` is logit and a label is certain."""
        soft = better.smoothed(self.label_smoothing)
        if self.psi == "logit" and bool((soft * (1 - soft) == 0).any()):
            raise UserError(
                "psi_po with psi: logit has no optimum for a label that is certain (P = 1): its "
                "target is infinite. Give soft labels, set label_smoothing=0.05, or take "
                "psi: identity."
            )
        return psi_po(better.ratio - worse.ratio, soft, beta=self.beta, psi=PSI[self.psi])
