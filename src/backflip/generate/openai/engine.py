"""Generation by a server: vLLM's, or another that takes and gives token ids as vLLM does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any, Protocol

from backflip.errors import UserError
from backflip.generate.engine import Completion, Progress, SamplingParams, check_prompts
from backflip.generate.openai.client import Client, Lines
from backflip.generate.openai.completions import Ask, Said, completed
from backflip.generate.openai.meeting import (
    NOTED,
    check_tokenizer,
    check_weights,
    model_named,
    states_processed,
)
from backflip.models.positions import check_growth
from backflip.models.trunk import unwrapped
from backflip.progress import task
from backflip.text import counted

BYTES_A_TOKEN = 400
COMPARED = 4
"""Answers that the learner reads too, to see whose weights drew them."""
EVERY = 100
"""Of the handovers; the first two in any case: then weights have changed."""


class Handover(Protocol):
    """A way for the learner's weights to get to a server."""

    loaded: str | None
    """The server's name for what was handed over; None where it keeps its name."""

    def suits(self, model: Any) -> bool:
        """Whether the model has what is handed over."""
        ...

    def push(self, model: Any) -> None:
        """Hand over. Raises UserError where the server does not take it."""
        ...

    def forgotten(self) -> None:
        """The server has begun anew, with the weights that it was started with."""
        ...


class OpenAIEngine:
    """Answers prompts through the completions endpoint of a server.

    One request a prompt, ``concurrency`` of them at once. The server counts its seeds up from ours,
    so the same seed gives the same answers as far as the server's arithmetic does not depend on
    who else is served (vLLM: ``VLLM_BATCH_INVARIANT=1``). Its numbers are never the learner's own.
    """

    exact = False
    route = staticmethod(completed)

    def __init__(
        self,
        model: Any,
        client: Client,
        *,
        served: str | None = None,
        tokenizer: Any = None,
        handover: Handover | None = None,
        concurrency: int = 16,
        near: float = NOTED,
    ) -> None:
        """``model``: the learner's. ``served``: its name on the server, None where it is alone.

        ``tokenizer``: the learner's, for stop strings and to compare with the server's.
        ``handover``: how the server gets the learner's weights; None, it keeps those that it has.
        ``near``: nats a token that its numbers may be from the learner's after a handover.
        """
        self.model, self.client, self.served = model, client, served
        self.tokenizer, self.concurrency = tokenizer, concurrency
        self.decode = None if tokenizer is None else tokenizer.decode
        self.handover, self.near, self._pushed = handover, near, 0
        self._said: Said | None = None
        self._stale = self._told = self._compared = False

    def sync(self, model: Any | None = None) -> None:
        """Have the next answers written with the weights that ``model`` has now.

        They are handed over when they are needed. Where there is no way to, the server's weights
        stay, which is said once. Raises UserError where there is nothing of the kind to hand over.
        """
        self.model = self.model if model is None else model
        if self.handover is not None and not self.handover.suits(self.model):
            raise UserError(
                "engine: the server is handed LoRA adapters alone, and here all weights learn. "
                "Train with lora, or set engine=vllm, which takes whole weights."
            )
        self._stale = self.handover is not None
        if self.handover is None and not self._told:
            self._told = True
            warnings.warn(
                f"the server at {self.client.url} keeps the weights it was started with: answers "
                "are not those of the policy that learns. engine.adapters=FOLDER hands its LoRA "
                "adapters over, engine=vllm all weights",
                stacklevel=2,
            )

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
        """``group`` answers for each prompt, those of the first prompt first.

        Raises:
            UserError: the server cannot be reached, holds another model, tokenizer or name, or its
                answers are not what was asked for.

        """
        if not prompts:
            return []
        said = self._known(prompts, params, group)
        asked = dict(zip(range(len(prompts)) if numbers is None else numbers, prompts, strict=True))
        done: dict[int, list[Completion]] = {}
        label = f"writing {len(prompts) * group} answers"
        with task(label, len(prompts) * group, "answers") as writing:
            for index, answers in self._asked(said, asked, (params, group, seed)):
                done[index] = answers
                writing.advance(group)
                _tell(answers, progress)
        answers = [answer for index in asked for answer in done[index]]
        if not self._compared:
            near = self.near if self._pushed else None
            read = [(asked[answer.prompt_index], answer) for answer in answers[:COMPARED]]
            check_weights(self.model, read, params, strict=not self._told, near=near)
            self._compared = True
        return answers

    def _asked(
        self, said: Said, prompts: Mapping[int, Sequence[int]], how: tuple[SamplingParams, int, int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """(number of a prompt, its answers) as they come; ``how``: settings, answers a prompt,
        seed.
        """
        (params, group, _), lines = how, Lines()

        def answered(index: int) -> list[Completion]:
            prompt = prompts[index]
            most = group * (params.max_tokens + len(prompt) + 16) * BYTES_A_TOKEN + (1 << 16)
            return self.route(_asking(self.client, most, lines), said, (index, prompt), how)

        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="completions")
        try:
            waiting = {pool.submit(answered, index): index for index in prompts}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
            if lines.failed:
                again = counted(len(lines.failed), "request")
                warnings.warn(
                    f"{again} to {self.client.url} failed and had to be made again; the last: "
                    f"{lines.failed[-1]}",
                    stacklevel=3,
                )
        finally:
            lines.hang_up()
            pool.shutdown(wait=False, cancel_futures=True)

    def _known(self, prompts: Sequence[Sequence[int]], params: SamplingParams, group: int) -> Said:
        """Facts about the server, which has the present weights by now. Raises UserError."""
        vocabulary = int(unwrapped(self.model).config.get_text_config().vocab_size)
        check_prompts(prompts, params, group=group, vocabulary=vocabulary)
        check_growth(self.model, [len(p) for p in prompts], params.max_tokens)
        if params.stop_strings and self.decode is None:
            raise UserError("stop_strings need an engine with a tokenizer.")
        if self._said is None:
            name, longest = model_named(self.client, self.served)
            if self.tokenizer is not None:
                check_tokenizer(self.client, name, self.tokenizer)
            said = Said(model=name, vocabulary=vocabulary, longest=longest, decode=self.decode)
            processed = states_processed(self.client, said, prompts)
            self._said = replace(said, processed=processed)
        check_request(self._said, max(map(len, prompts)), params)
        if self.handover is None:
            return self._said
        if self._stale:
            self.handover.push(self.model)
            self._pushed, self._stale = self._pushed + 1, False
            self._compared = self._compared and self._pushed > 2 and self._pushed % EVERY != 0
        return replace(self._said, model=self.handover.loaded or self._said.model)


def _asking(client: Client, most: int, lines: Lines) -> Ask:
    """Asks a path of the server's, which begins with / where it stands beside the version."""

    def ask(path: str, body: Any) -> Any:
        url = client.root if path[0] == "/" else f"{client.url}/"
        return client.ask(url + path, body, most_bytes=most, lines=lines)

    return ask


def check_request(said: Said, longest: int, params: SamplingParams) -> None:
    """Raises UserError for answers too long for the server, or of unknown probability."""
    if said.longest is not None and longest + params.max_tokens > said.longest:
        raise UserError(
            f"engine: a prompt of {longest} tokens and max_tokens {params.max_tokens} go beyond "
            f"the {said.longest} that the server takes (vLLM's --max-model-len)."
        )
    if not said.processed and not params.filters and params.temperature != 1:
        raise UserError(
            "engine: the server states log-probabilities before the temperature "
            f"({params.temperature:g}) is applied, so what answers were drawn with is not known. "
            "Start it with --logprobs-mode processed_logprobs, or set sampling.temperature=1."
        )


def _tell(answers: Sequence[Completion], progress: Progress | None) -> None:
    if progress is not None:
        for answer in answers:
            for token in answer.tokens:
                progress(answer.prompt_index, answer.answer_index, token)
