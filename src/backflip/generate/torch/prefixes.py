"""Keys and values of conversations that may go on: their next turn reads only what is new."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

__all__ = ["Prefixes"]

MOST_BYTES = 2 << 30
"""Memory of all that is kept; the oldest goes first, and is read anew."""


class Prefixes:
    """Sequences that have been read, by their tokens; each is taken once."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], Tensor] = {}
        self._bytes = 0

    def add(self, tokens: Sequence[int], kv: Float[Tensor, "L M W"]) -> None:
        """Keep the keys and values of the first M tokens."""
        key = tuple(tokens[: kv.shape[1]])
        self._drop(key)
        self._kept[key] = kv
        self._bytes += kv.nbytes
        while self._bytes > MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def take(self, prompt: Sequence[int]) -> Tensor | None:
        """Keys and values of the longest beginning of a prompt, the whole of it not included."""
        prompt = tuple(prompt)
        fits = (k for k in self._kept if len(k) < len(prompt) and prompt[: len(k)] == k)
        longest = max(fits, key=len, default=None)
        return None if longest is None else self._drop(longest)

    def _drop(self, key: tuple[int, ...]) -> Tensor | None:
        kv = self._kept.pop(key, None)
        self._bytes -= 0 if kv is None else kv.nbytes
        return kv
