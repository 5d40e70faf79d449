"""The report on a reward: all that was measured of it, and what that means in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

from backflip.data.batches import ComparisonBatch
from backflip.data.records import Comparison
from backflip.evaluation.reward_model import RewardReport, report
from backflip.evaluation.trust.agreement import Agreement, raters_agreement
from backflip.evaluation.trust.calibration import (
    Rescaled,
    cross_fitted,
    ece_of_a_calibrated_model,
)
from backflip.evaluation.trust.golden import Golden
from backflip.evaluation.trust.members import Members, measured_members
from backflip.evaluation.trust.pairs import (
    JudgedPairs,
    Refusal,
    combined,
    difference_interval,
    judged_pairs,
)
from backflip.evaluation.trust.probes import ProbeResult
from backflip.evaluation.trust.slices import Column, by_columns
from backflip.functional.statistics import Interval, Numbers, finite, share_interval

__all__ = ["Certainty", "TrustReport", "trust_report"]

SURE = 0.99
"""Stated probability from which on a claim leaves nothing to learn: its gradient is below 1 %."""


@dataclass(frozen=True)
class Certainty:
    """Pairs of which the model claims to be sure, at 99 % or more."""

    share: Interval
    """Of all pairs."""
    right: Interval
    """Accuracy on them."""


@dataclass(frozen=True)
class TrustReport:
    """A reward model, an ensemble or a policy's implicit reward, measured on comparisons."""

    name: str
    """The model, as it was named."""
    measured: RewardReport
    """Accuracy, calibration and the length baselines, all by prompt."""
    unscored: int
    """Pairs in none of the numbers, because a score of theirs is not a number."""
    ece_if_calibrated: float
    """The calibration error that chance alone gives to as many pairs with the same claims."""
    rescaled: Rescaled | Refusal
    """Calibration after temperature scaling, each half of the prompts by the other's."""
    certainty: Certainty
    length_gap: Interval
    """Accuracy where people preferred the longer reply less that where the shorter, lengths that
    differ by a tenth or more."""
    columns: tuple[Column, ...]
    """Accuracy by what records say of their pairs."""
    agreement: Agreement | Refusal
    probes: tuple[ProbeResult, ...]
    members: Members | None
    """None of a single judge."""
    golden: Golden | None
    """None where no golden rows are given."""
    deltas: Numbers = field(compare=False, repr=False)
    """[P] score of the preferred answer less that of the other, for pictures."""
    sentences: tuple[str, ...] = ()
    """Remarks on the numbers, in words."""
    page: str = ""
    """The file with its pictures; empty where none is written."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite; a reason where there is none."""
        sure = {**self.certainty.share.named("sure"), **self.certainty.right.named("sure_right")}
        return self.measured.to_json() | {
            "unscored_pairs": self.unscored,
            "ece_if_calibrated": finite(self.ece_if_calibrated),
            "rescaled": self.rescaled.to_json(),
            **sure,
            **self.length_gap.named("length_gap"),
            "columns": {column.name: column.to_json() for column in self.columns},
            "agreement": self.agreement.to_json(),
            "probes": {probe.name: probe.to_json() for probe in self.probes},
            "ensemble": None if self.members is None else self.members.to_json(),
            "golden": None if self.golden is None else self.golden.to_json(),
            "sentences": list(self.sentences),
            "page": self.page,
        }


def trust_report(
    name: str,
    scores: Float[Tensor, "N M"],
    batch: ComparisonBatch,
    records: Sequence[Comparison],
    columns: Mapping[str, str],
    *,
    sizes: Mapping[str, Any],
    probes: tuple[ProbeResult, ...] = (),
    golden: Golden | None = None,
) -> TrustReport:
    """All numbers of the report but its sentences.

    ``records``: one for each row of ``batch``; ``columns``: by ``used_columns``; ``sizes``: what
    ``report`` takes beside scores; ``probes``, ``golden``: as ``probe_results`` and
    ``measured_golden`` have them. Raises UserError where no pair is decided.
    """
    measured = report(combined(scores, scores), batch, **sizes)
    pairs = judged_pairs(scores, batch, records)
    sure = expit(np.abs(pairs.delta)) >= SURE
    return TrustReport(
        name=name,
        measured=measured,
        unscored=pairs.unscored,
        ece_if_calibrated=ece_of_a_calibrated_model(pairs.delta),
        rescaled=cross_fitted(pairs),
        certainty=Certainty(
            share_interval(sure, pairs.prompt),
            share_interval(pairs.right[sure], pairs.prompt[sure]),
        ),
        length_gap=_length_gap(pairs),
        columns=by_columns(pairs, columns),
        agreement=raters_agreement(pairs, columns),
        probes=probes,
        members=measured_members(pairs),
        golden=golden,
        deltas=pairs.delta,
    )


def _length_gap(pairs: JudgedPairs) -> Interval:
    apart = np.abs(pairs.longer_by) >= 0.1 * pairs.lengths.max(1, initial=0)
    longer = pairs.longer_by[apart] > 0
    if not longer.any() or longer.all():
        return Interval(math.nan, -1.0, 1.0, 0.95, int(apart.any()))
    return difference_interval(pairs.right[apart], longer, pairs.prompt[apart])
