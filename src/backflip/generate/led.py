"""An engine that rank 0 alone asks, as a server is: its answers are told to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backflip.distributed.layout import plain
from backflip.distributed.world import here
from backflip.generate.engine import Closing, Completion, Engine, Progress, SamplingParams

__all__ = ["Led"]


class Led:
    """Rank 0's engine, of which the other ranks hear. It is handed whole weights."""

    def __init__(self, engine: Engine, model: Any) -> None:
        """``model``: the one that learns, which every rank has a part of."""
        self.engine, self.model = engine, model

    @property
    def exact(self) -> bool:
        return self.engine.exact

    def sync(self, model: Any | None = None) -> None:
        """Take over the weights that ``model`` has now."""
        self.model = self.model if model is None else model
        whole = plain(self.model, only_leader=True)
        here().once(lambda: self.engine.sync(whole))

    def close(self) -> None:
        """End what the engine has started."""
        if isinstance(self.engine, Closing):
            self.engine.close()

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
    ) -> list[Completion]:
        """``group`` answers for each prompt, those of the first prompt first."""
        engine: Any = self.engine
        engine.model = plain(self.model, only_leader=True)
        return here().once(
            lambda: engine.generate(prompts, params, group=group, seed=seed, progress=progress)
        )
