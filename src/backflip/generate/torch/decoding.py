"""The protocol of networks that write tokens, as the sampling loop needs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Waiting:
    """An answer that has not begun."""

    prompt: int
    """Index of its prompt."""
    answer: int
    """Which of the prompt's answers."""
    tokens: Sequence[int]
    """The prompt."""
    answers: int
    """How many answers the prompt gets in all: when they are done its keys may go."""


@runtime_checkable
class Decoder(Protocol):
    """Rows of half-written answers. Rows 0 … R-1 are live; knows nothing of sampling."""

    def start(self, max_rows: int, max_tokens: int) -> None:
        """Forget everybody; at most ``max_rows`` answers will be open at once.

        ``max_tokens``: none of them grows longer.
        """
        ...

    def admit(self, waiting: Sequence[Waiting], free: int) -> Float[Tensor, "n V"]:
        """Open the first n ≤ ``free`` of the waiting answers as rows R … R+n-1.

        Returns the logits of their first tokens. n may be 0 while other rows are open.
        """
        ...

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "R V"]:
        """Read one more token per row; the logits of the next."""
        ...

    def idle(self, alive: Sequence[bool]) -> bool:
        """Whether rows that have ended may stay in their places for now, and be read on."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Row i becomes what row ``rows[i]`` ≥ i was; rows that are not named have left."""
        ...

    def remember(self, row: int, tokens: Sequence[int]) -> None:
        """Row ``row`` has ended with these tokens, prompt included; another prompt may go on."""
        ...

    def finish(self) -> None:
        """Give memory back."""
        ...


def distinct_prompts(waiting: Iterable[Waiting]) -> list[Waiting]:
    """One of the waiting for each prompt, in their order."""
    return list({w.prompt: w for w in waiting}.values())
