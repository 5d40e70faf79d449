"""Answers of a vLLM that was started for the run: what it loses is asked again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from backflip.generate.engine import Completion, Progress, SamplingParams
from backflip.generate.openai.client import SilentError
from backflip.generate.openai.engine import OpenAIEngine
from backflip.generate.vllm.server import OwnServer

__all__ = ["VllmEngine"]


class VllmEngine(OpenAIEngine):
    """The same protocol, of a server that is started again when it dies or is stuck.

    A request is its prompt and its seed, so that asking anew is the same work. The new server gets
    the newest weights before it is asked anything.
    """

    def __init__(self, model: Any, server: OwnServer, **how: Any) -> None:
        """``server``: serves by now; ``how``: as ``OpenAIEngine`` takes it, ``client`` too."""
        super().__init__(model, **how)
        self.server = server

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        group: int = 1,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """As ``OpenAIEngine``; raises UserError where the server fails again and again."""
        while True:
            try:
                return super().generate(prompts, params, group=group, seed=seed, progress=progress)
            except SilentError as error:
                why = "it was stuck" if self.server.alive() else "it had died"
                warnings.warn(self.server.start_again(f"{why}: {error}"), stacklevel=2)
                self._begun_anew()

    def close(self) -> None:
        """End the server."""
        self.server.stop()

    def _begun_anew(self) -> None:
        """The server has the weights that it was started with."""
        if self.handover is not None:
            self.handover.forgotten()
            self._stale = True
