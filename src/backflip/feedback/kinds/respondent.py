"""The simulated rater in front of one item, as kinds of tasks ask it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from backflip.feedback.kinds.fields import Payload


class Respondent(ABC):
    """One question to one simulated rater; every opinion comes with the seconds that it took."""

    @abstractmethod
    def preference(self, payload: Payload, levels: int, *, ties: bool) -> tuple[float, float]:
        """−1 … 1 in steps of 1 / ``levels``: the second side better … the first.

        0 is a tie, and does not occur without ``ties``. Raises ValueError for an unknown pair.
        """

    @abstractmethod
    def ranking(self, payload: Payload) -> tuple[list[int], float]:
        """A rank for each side, 0 the best."""

    @abstractmethod
    def qualities(self, payload: Payload, texts: Sequence[str]) -> tuple[list[float], float]:
        """How good each text seems, in standard deviations."""
