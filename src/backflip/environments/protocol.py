"""The protocol of environments: text of the policy goes in, messages and rewards come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from backflip.data.records import Messages, Prompt

__all__ = ["BrokenError", "Environment", "Limits", "Said", "Step"]

Said: TypeAlias = Messages | Sequence[int]
"""Messages, which the chat template writes; or token ids, which are taken as they are."""


class BrokenError(Exception):
    """An environment that failed by itself: its episode has no score, and is counted by reason."""


@dataclass(frozen=True)
class Step:
    """An environment's answer to one turn of the policy."""

    said: Said = ()
    """Read by the policy before its next turn; without anything, the episode ends."""
    done: bool = False
    reward: float = 0.0
    """For this turn; it stands on the turn's last token."""
    calls: int = 0
    """Calls of tools in the turn."""
    malformed: int = 0
    """Calls that could not be understood, or turns that held nothing to act on."""
    failed: int = 0
    """Calls whose tool raised or took too long."""


@runtime_checkable
class Environment(Protocol):
    """Episodes, one after another.

    A method ``close``, where there is one, is called when the run ends, and when an environment
    that broke is replaced by a fresh one.
    """

    def reset(self, prompt: Prompt, seed: int) -> Said:
        """Begin an episode: the conversation that the policy is given. Siblings of a group get the
        same seed.
        """
        ...

    def step(self, text: str) -> Step:
        """Answer a turn of the policy, given as text without the token that ended it."""
        ...

    def end(self) -> float:
        """Reward on top, for the episode's last turn; called once, however the episode ended."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of an episode."""

    turns: int = 8
    """Most turns of the policy; an episode that is not done by then is cut off."""
    tokens: int = 1024
    """Most tokens behind the prompt, those of the environment included."""
    seconds: float = 10.0
    """Time that an environment, or a tool, has for one answer."""
    characters: int = 2000
    """Longest text that the policy is given to read at once; what is longer is cut."""

    def cut(self, text: str) -> str:
        """The text within its bound, with a word on what was left out."""
        if len(text) <= self.characters:
            return text
        return f"{text[: self.characters]} [{len(text) - self.characters} more characters]"
