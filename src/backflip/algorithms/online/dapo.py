"""DAPO: GRPO with a higher upper clip, every token weighing the same (Yu et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backflip.algorithms.online.group_relative import GroupRelative
from backflip.algorithms.online.policy_loss import AsymmetricClip, Clip

__all__ = ["DAPO"]


@dataclass(frozen=True, kw_only=True)
class DAPO(GroupRelative, AsymmetricClip):
    """GRPO clipped to 1 − 0.2 and 1 + 0.28, averaged over all tokens, without a KL (eq. 8).

    The other two of its four parts are settings of the recipe: sampling on until prompts have
    signal (``curriculum.rounds``), and ``shaping.overlong_buffer``.
    """

    title: ClassVar[str] = "DAPO"

    eps_high: Clip = 0.28
    """Above 1 + eps_high a ratio gains nothing: unlikely tokens may still grow (clip-higher)."""
