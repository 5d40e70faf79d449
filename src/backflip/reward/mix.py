"""A weighted mix of sources of reward, whose scores may be bounded or whitened first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.data.records import Tally
from backflip.functional.credit import at_end, whiten
from backflip.functional.shaping import clip_scores
from backflip.monitor.outcomes import FAILED, VERDICTS
from backflip.reward.protocol import Judgement, RewardSource

__all__ = ["Mix", "told"]


@dataclass(frozen=True)
class Mix:
    """Σ weight · score over several sources, each of them watched under its name.

    Shares of outcomes stand among the parts by the name of their source; failures of any, and the
    verdicts of one source, stand there by their own names too.
    """

    sources: Mapping[str, RewardSource]
    weights: Sequence[float]
    clip: float | None = None
    """Scores of each source beyond ±clip are cut to it."""
    verdicts: str | None = None
    """The source whose verdicts say which answers are right; None takes the only one with some."""
    whiten: bool = False
    """Scores of each source get mean 0 and deviation 1 over the batch, after clipping."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        mask = rollouts.mask
        judged, common = told(self.sources, rollouts, self.verdicts)
        terms = [self._tamed(judgement, mask) for judgement in judged.values()]
        scores = torch.stack([term.scores for term in terms])
        weights = scores.new_tensor(list(self.weights))
        said: dict[str, Any] = {"terms": scores.T, "weights": tuple(self.weights)}
        if any(term.steps is not None for term in terms):
            in_time = torch.stack([term.rewards(mask) for term in terms])
            said["steps"] = (weights[:, None, None] * in_time).sum(0)
            said["ends"] = torch.stack([j.step_ends(mask) for j in judged.values()]).any(0)
        total = (weights[:, None] * scores).sum(0)
        return Judgement(total, **common, **said)

    def _tamed(self, judgement: Judgement, mask: Bool[Tensor, "B T"]) -> Judgement:
        """A source's judgement with its scores bounded and whitened; rewards of steps follow."""
        if self.clip is not None:
            scores = clip_scores(judgement.scores, limit=self.clip)
            steps = _with_end(judgement.steps, scores - judgement.scores, mask)
            judgement = replace(judgement, scores=scores, steps=steps)
        known = judgement.scores.isfinite()
        if not self.whiten or not known.any():
            return judgement
        white = whiten(judgement.scores[:, None], known[:, None])[:, 0]
        spread = (judgement.scores[known] - judgement.scores[known].mean()).square().mean().sqrt()
        steps = judgement.steps
        if steps is not None:
            steps = torch.where(spread > 0, steps / spread.clamp(min=1e-12), 0.0)
            steps = _with_end(steps, white - steps.sum(-1), mask)
        return replace(judgement, scores=torch.where(known, white, judgement.scores), steps=steps)


def told(
    sources: Mapping[str, RewardSource], rollouts: Rollouts, verdicts: str | None
) -> tuple[dict[str, Judgement], dict[str, Any]]:
    """Judgements of several sources, and the parts and failures that a judgement of all has."""
    judged = {name: source(rollouts) for name, source in sources.items()}
    parts = {name: j.scores for name, j in judged.items()}
    for name, judgement in judged.items():
        parts |= {f"{name}_{part}": value for part, value in judgement.parts.items()}
    parts |= _outcomes(judged, verdicts)
    failures = Tally()
    for judgement in judged.values():
        failures.update(judgement.failures)
    return judged, {"parts": parts, "failures": failures}


def _with_end(
    steps: Float[Tensor, "B T"] | None, more: Float[Tensor, " B"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"] | None:
    """Rewards of steps with an addition at the last choice."""
    return None if steps is None else steps + at_end(more, mask)


def _outcomes(judged: Mapping[str, Judgement], whose: str | None) -> dict[str, Tensor]:
    """Failures of any source, and the verdicts of one."""
    parts = [one.parts for one in judged.values()]
    found = {name: _any(part[name] for part in parts if name in part) for name in FAILED}
    giving = [part for part in parts if any(name in part for name in VERDICTS)]
    if whose is not None:
        found |= {name: judged[whose].parts.get(name) for name in VERDICTS}
    elif len(giving) == 1:
        found |= {name: giving[0].get(name) for name in VERDICTS}
    return {name: share for name, share in found.items() if share is not None}


def _any(shares: Iterable[Tensor]) -> Tensor | None:
    held = list(shares)
    return torch.stack(held).amax(0) if held else None
