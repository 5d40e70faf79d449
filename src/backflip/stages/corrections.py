"""Corrections of a sampler that is not the learner, as settings of the online stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from backflip.stages.choices import NAMES, one_of, register
from backflip.text import counted
from backflip.training.corrections import (
    TIS,
    Correction,
    GeometricMask,
    IcePop,
    KLGate,
    NoCorrection,
    SequenceMask,
    TVGate,
)

__all__ = ["CORRECTIONS", "Corrections", "correction_faults", "settled"]

CORRECTIONS: dict[str, type[Any]] = {
    "none": NoCorrection,
    "tis": TIS,
    "icepop": IcePop,
    "sequence_mask": SequenceMask,
    "geometric_mask": GeometricMask,
    "tv_gate": TVGate,
    "kl_gate": KLGate,
}
"""Corrections by the name that a recipe gives."""
register(CORRECTIONS)
if TYPE_CHECKING:
    Corrections: TypeAlias = (
        NoCorrection | TIS | IcePop | SequenceMask | GeometricMask | TVGate | KLGate
    )
else:
    Corrections = one_of(CORRECTIONS)


def correction_faults(recipe: Any, prefix: str) -> Iterator[str]:
    """Sentences on a correction that does not go with the algorithm."""
    chosen, kind = recipe.correction, type(recipe.algorithm)
    if kind.corrects_sampler and chosen is not None and not isinstance(chosen, NoCorrection):
        yield (
            f"{prefix}correction is {NAMES[type(chosen)]}, but {kind.title} takes its ratio to the "
            f"sampler itself: choices would be weighed twice. Set {prefix}correction=none."
        )


def settled(
    chosen: Correction | None, algorithm: Any, *, exact: bool, ahead: int = 0
) -> tuple[Correction, str]:
    """(the correction of a run, a sentence on one that was not chosen, else "").

    ``exact``: whether the sampler's log-probabilities are the learner's own; ``ahead``: steps that
    it may draw ahead of the learner.
    """
    if chosen is not None:
        return chosen, ""
    if exact and not ahead:
        return NoCorrection(), ""
    apart = "the engine's log-probabilities are not the learner's own"
    if ahead:
        apart = f"answers are drawn by weights that are up to {counted(ahead, 'step')} old"
    if algorithm.corrects_sampler:
        return NoCorrection(), f"{apart}: {algorithm.title} measures from the sampler itself"
    tis, others = TIS(), ", ".join(name for name in CORRECTIONS if name != "tis")
    return tis, (
        f"{apart}: tokens of answers are weighed by the learner's probability over the "
        f"sampler's, up to {tis.cap:g} (correction=tis; others: {others})"
    )
