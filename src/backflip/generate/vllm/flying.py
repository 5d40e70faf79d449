"""Weights that are handed over in the middle of answers, and whose weights drew each token.

vLLM pauses, keeps what it has written, takes the weights and goes on. Its own route for token ids
says which weights drew which tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from backflip.errors import UserError
from backflip.generate.engine import Completion, SamplingParams
from backflip.generate.openai.client import SilentError
from backflip.generate.openai.completions import Ask, Said, answers_in, request, seed_of
from backflip.generate.vllm.engine import VllmEngine
from backflip.models.learnt import taken_over

__all__ = ["FlyingEngine"]

ROUTE = "/inference/v1/generate"
OUTSIDE = ("model", "prompt", "stream", "add_special_tokens", "return_token_ids")
OUTSIDE += ("return_tokens_as_token_ids",)
"""Fields of a request of ``/v1/completions`` that are none of vLLM's sampling parameters."""


class FlyingEngine(VllmEngine):
    """Writes on with newer weights than an answer was begun with."""

    renews = True

    def __init__(self, model: Any, server: Any, **how: Any) -> None:
        super().__init__(model, server, **how)
        self._handing, self._flying = threading.Lock(), False
        whole: Any = self.handover
        self.route = partial(_drawn, steps=whole.steps)

    def sync(self, model: Any | None = None) -> None:
        self._flying = False
        super().sync(model)

    def renew(self, model: Any, weights: Mapping[str, Tensor], step: int) -> None:
        """Hand weights over now, whatever is being written.

        ``model``: takes them on first, and nobody else changes it; ``step``: of learning, behind
        them. A server that does not answer gets them when it is started again.
        """
        whole: Any = self.handover
        with self._handing:
            taken_over(model, weights)
            self.model, whole.step, self._flying, self._stale = model, step, True, True
            try:
                whole.push(model)
            except SilentError:
                return  # whoever waits for its answers starts it again
            self._stale = False

    def _known(self, prompts: Sequence[Sequence[int]], params: SamplingParams, group: int) -> Said:
        with self._handing:
            said = super()._known(prompts, params, group)
            if self._flying:
                self._compared = True  # weights move on while answers are written
            return said


def _drawn(
    ask: Ask,
    said: Said,
    prompt: tuple[int, Sequence[int]],
    how: tuple[SamplingParams, int, int],
    *,
    steps: Mapping[str, int],
) -> list[Completion]:
    """Answers to one prompt, with the steps of learning behind each token; as ``completed``.

    ``steps``: by the names of weights that were handed over.
    """
    params, group, seed = how
    asked = request(said, prompt[1], params, n=group, seed=seed_of(seed, prompt[0]))
    sampling = {name: value for name, value in asked.items() if name not in OUTSIDE}
    body = {"model": said.model, "token_ids": asked["prompt"], "sampling_params": sampling}
    answer = ask(ROUTE, body)
    choices = answer.get("choices") if isinstance(answer, dict) else None
    plain = [_as_completed(choice) for choice in choices or []]
    found = answers_in({"choices": plain}, said, prompt, params, group)
    spans = {choice["index"]: choice.get("weight_versions") for choice in choices or []}
    return [replace(one, versions=_versions(one, spans[one.answer_index], steps)) for one in found]


def _as_completed(choice: Any) -> dict[str, Any]:
    """A choice of this route as one of ``/v1/completions``."""
    content = (choice.get("logprobs") or {}).get("content") or []
    logp = [entry.get("logprob") for entry in content]
    return {**choice, "logprobs": {"token_logprobs": logp}}


def _versions(answer: Completion, spans: Any, steps: Mapping[str, int]) -> list[int]:
    """Steps of learning behind each token. Raises UserError where spans do not cover all of them,
    or weights are none that were handed over.
    """
    found: list[int] = []
    for span in spans or []:
        known = steps.get(span["version"])
        if known is None or span["start"] != len(found):
            break
        found += [known] * (span["end"] - span["start"])
    if len(found) != len(answer.tokens):
        raise UserError(
            f"engine: of {len(answer.tokens)} tokens vLLM says of {len(found)} whose weights drew "
            f"them ({spans}). Set engine.in_flight=false."
        )
    return found
