"""Answers of a vLLM that was started for the run: what it loses is asked again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from backflip.errors import UserError
from backflip.generate.engine import Completion, Progress, SamplingParams
from backflip.generate.openai.client import SilentError
from backflip.generate.openai.completions import Said
from backflip.generate.openai.engine import OpenAIEngine
from backflip.generate.vllm.server import OwnServer

__all__ = ["VllmEngine"]


IN_A_ROW = 3
"""Most starts that have not brought the answers that were asked for."""
GRACE = 2.0
"""Seconds in which the end of a process that died is seen."""


class VllmEngine(OpenAIEngine):
    """The same protocol, of a server that is started again when it dies or is stuck.

    A request is its prompt and its seed, so that asking anew is the same work. The new server gets
    the newest weights before it is asked anything.
    """

    def __init__(
        self,
        model: Any,
        server: OwnServer,
        *,
        ended: Callable[[], None],
        sleeps: bool = False,
        **how: Any,
    ) -> None:
        """``server``: serves by now; ``ended``: called when it was ended; ``sleeps``: whether it
        lets go of its memory when it has answered; ``how``: as ``OpenAIEngine`` takes it,
        ``client`` too.
        """
        super().__init__(model, **how)
        self.server, self._ended = server, ended
        self.sleeps, self._asleep = sleeps, False

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
        """As ``OpenAIEngine``; raises UserError where the server fails again and again."""
        how: Any = {"group": group, "seed": seed, "progress": progress, "numbers": numbers}
        for left in reversed(range(IN_A_ROW + 1)):
            try:
                return self._then_asleep(super().generate(prompts, params, **how))
            except SilentError as error:
                if self.server.closed:
                    raise
                if not left:
                    raise UserError(
                        f"engine: vLLM was started again {IN_A_ROW} times and did not answer the "
                        f"same prompts: {error} Give it engine.timeout, or fewer prompts at once."
                    ) from error
                why = "it had died" if self.server.ends_within(GRACE) else "it was stuck"
                warnings.warn(self.server.start_again(f"{why}: {error}".rstrip(".")), stacklevel=2)
                self._begun_anew()
        raise AssertionError("the last try raises")

    def close(self) -> None:
        """End the server."""
        self.server.close()
        self._ended()

    def _known(self, prompts: Sequence[Sequence[int]], params: SamplingParams, group: int) -> Said:
        """As ``OpenAIEngine``; a server that sleeps is woken, first for weights, then for keys."""
        if self._asleep:
            self._ask("wake_up?tags=weights")
        said = super()._known(prompts, params, group)
        if self._asleep:
            self._ask("wake_up?tags=kv_cache")
            self._asleep = False
        return said

    def _then_asleep(self, answers: list[Completion]) -> list[Completion]:
        """The answers, once the server has let go of its memory where it is to."""
        if self.sleeps:
            with contextlib.suppress(SilentError):  # whoever asks next notices
                self._ask("sleep?level=1")
                self._asleep = True
        return answers

    def _ask(self, verb: str) -> None:
        self.client.ask(f"{self.client.root}/{verb}", {}, plain=True)

    def _begun_anew(self) -> None:
        """The server has the weights that it was started with."""
        self._asleep = False
        if self.handover is not None:
            self.handover.forgotten()
            self._stale = True
