"""An engine that rank 0 alone asks, as a server is: its answers are told to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backflip.distributed.layout import plain
from backflip.distributed.world import here
from backflip.generate.engine import Completion, Progress, SamplingParams, end

__all__ = ["Led"]


class Led:
    """Rank 0's engine, of which the other ranks hear. It is handed whole weights."""

    def __init__(
        self, engine: Any, model: Any, *, exact: bool = False, renews: bool = False
    ) -> None:
        """``engine``: rank 0's, which others need not have; ``model``: the one that learns, which
        every rank has a part of; ``exact``: whether it states the learner's own numbers;
        ``renews``: whether it is handed weights in the middle of answers.
        """
        self.engine, self.model, self.exact, self.renews = engine, model, exact, renews

    def sync(self, model: Any | None = None) -> None:
        """Take over the weights that ``model`` has now."""
        self.model = self.model if model is None else model
        whole = plain(self.model, only_leader=True)
        here().once(lambda: self.engine.sync(whole))

    def renew(self, model: Any, weights: Any, step: int) -> None:
        """Hand rank 0's weights over now; they are whole."""
        here().once(lambda: self.engine.renew(model, weights, step))

    def close(self) -> None:
        """End what the engine has started."""
        end(self.engine)

    def release(self) -> None:
        """Nothing to free: the weights are the server's."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        group: int = 1,
        seed: int = 0,
        progress: Progress | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Completion]:
        """``group`` answers for each prompt, those of the first prompt first."""
        whole = plain(self.model, only_leader=True)

        def answered() -> list[Completion]:
            self.engine.model = whole
            how: Any = {"group": group, "seed": seed, "progress": progress, "numbers": numbers}
            return self.engine.generate(prompts, params, **how)

        return here().once(answered)
