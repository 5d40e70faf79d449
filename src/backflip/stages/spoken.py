"""Answers and episodes as people read them: whose words are whose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from backflip.data.batches import Rollouts
from backflip.data.chat import ChatTemplate
from backflip.reward.judge import as_text

__all__ = ["asked_after_reset", "plain", "spoken"]

ROLES = frozenset({"user", "assistant", "system", "tool", "model", "environment", "ipython"})
"""Names that templates spell around a turn."""
POLICY, ENVIRONMENT = "policy: ", "environment: "


def plain(tokens: Sequence[int], template: ChatTemplate) -> str:
    """An answer as people read it, without the token that ended it."""
    tokenizer: Any = template.tokenizer
    ends = set(template.stop_tokens)
    return str(tokenizer.decode([t for t in tokens if t not in ends])).strip()


def spoken(rollouts: Rollouts, row: int, template: ChatTemplate) -> str:
    """An answer as text; of an episode every turn with its speaker, the policy or what it plays in.

    A turn that the template holds apart from the next by nothing is held apart here.
    """
    tokens = rollouts.steps.answer.row(row).tolist()
    if rollouts.played is None:
        return plain(tokens, template)
    own, turns = rollouts.mask[row, : len(tokens)].tolist(), list[str]()
    for mine, run in groupby(zip(tokens, own, strict=True), key=lambda pair: pair[1]):
        text = _words(as_text(template, [token for token, _ in run]))
        if mine or text:
            turns.append(f"{POLICY if mine else ENVIRONMENT}{text}")
    return "\n".join(turns)


def asked_after_reset(rollouts: Rollouts, row: int, asked: str, template: ChatTemplate) -> str:
    """A prompt as people read it, and the text that an environment's ``reset`` put behind it."""
    if rollouts.played is None:
        return asked
    shown = as_text(template, rollouts.steps.prompt.row(row).tolist())
    _, found, behind = shown.rpartition(asked)
    more = _words(behind) if found else ""
    return f"{asked}\n{ENVIRONMENT}{more}" if more else asked


def _words(text: str) -> str:
    """Without the names of roles that stand around a turn."""
    lines = text.strip().split("\n")
    while lines and lines[0].strip() in {*ROLES, ""}:
        lines.pop(0)
    while lines and lines[-1].strip() in {*ROLES, ""}:
        lines.pop()
    return "\n".join(lines).strip()
