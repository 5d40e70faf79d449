"""Shaping of scores before they are rewards: cut-off answers, length, clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from backflip.data.batches import Rollouts
from backflip.functional.credit import at_end
from backflip.functional.shaping import clip_scores, length_penalty, missing_eos, overlong
from backflip.reward.protocol import Judgement, RewardSource


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """Applied in the order of the fields. The unshaped score stays among the parts."""

    clip: float | None = None
    """Scores beyond ±clip are cut to it."""
    length_penalty: float = 0.0
    """Taken off for every token of the answer."""
    missing_eos: float | None = -1.0
    """Score of an answer that was cut off, whatever it says; None judges it as it stands."""
    overlong_buffer: int | None = None
    """Tokens before the length limit over which up to 1 is taken off (DAPO: Yu et al., 2025,
    eq. 13: 4096 of 20480); None takes nothing off."""

    def bounds(self, known: tuple[float, float] | None, *, cut: bool) -> tuple[float, float] | None:
        """Of shaped scores, from those of the scores; ``cut``: whether answers were cut off."""
        if known is None or self.length_penalty:
            return None
        most = math.inf if self.clip is None else self.clip
        low, high = (min(max(end, -most), most) for end in known)
        if cut and self.missing_eos is not None:
            low, high = min(low, self.missing_eos), max(high, self.missing_eos)
        return low - float(self.overlong_buffer is not None), high


@dataclass(frozen=True)
class Shaped:
    """A source whose scores are shaped."""

    source: RewardSource
    shaping: Shaping
    limit: int
    """Tokens of the longest answer that may be drawn."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        judged, how = self.source(rollouts), self.shaping
        scores = judged.scores
        if how.clip is not None:
            scores = clip_scores(scores, limit=how.clip)
        if how.length_penalty:
            lengths = rollouts.mask.sum(-1)
            scores = length_penalty(scores, lengths, per_token=how.length_penalty)
        if how.missing_eos is not None:
            scores = missing_eos(scores, rollouts.finished, score=how.missing_eos)
        if how.overlong_buffer is not None:
            lengths = rollouts.mask.sum(-1)
            scores = scores + overlong(lengths, limit=self.limit, buffer=how.overlong_buffer)
        scores = torch.where(judged.scores.isfinite(), scores, judged.scores)  # none stays none
        said, added = dict[str, Any](), scores - judged.scores
        if judged.steps is not None:
            shaped = at_end(added, rollouts.mask)
            said["steps"] = judged.steps + shaped
            said["ends"] = judged.step_ends(rollouts.mask) | (shaped != 0)
        if judged.terms is not None and (added.nan_to_num() != 0).any():
            said["terms"] = torch.cat([judged.terms, added[:, None]], 1)
            said["weights"] = (*judged.weights, 1.0)
        parts = {**judged.parts, "unshaped": judged.scores}
        return replace(judged, scores=scores, parts=parts, **said)
