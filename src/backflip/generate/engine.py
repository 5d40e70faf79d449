"""The protocol of engines: prompts go in, answers with their log-probabilities come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from backflip.errors import UserError

FinishReason = Literal["stop", "length", "stop_string"]
Progress = Callable[[int, int, int], None]
"""Called with (prompt, answer, token) the moment a token has been chosen."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn. The defaults draw from the model's own distribution.

    What is applied, in this order: logit bias, vocabulary and minimum length, temperature, top-k,
    top-p, min-p.
    """

    max_tokens: int = 64
    """Longest answer, in tokens, the stop token included."""
    min_tokens: int = 0
    """Tokens before the first stop token or stop string may come."""
    temperature: float = 1.0
    """Logits are divided by it; 0 takes the most likely token."""
    top_k: int | None = None
    """Only the k most likely tokens (those tied with the k-th stay)."""
    top_p: float = 1.0
    """Only the smallest set of most likely tokens that holds this probability."""
    min_p: float = 0.0
    """Only tokens with at least this share of the most likely token's probability."""
    stop_tokens: tuple[int, ...] = ()
    """Tokens that end an answer and belong to it."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end an answer; the engine needs ``decode`` for these."""
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    """Added to the logits of these tokens; -inf forbids one."""
    vocab_size: int | None = None
    """Tokens that the tokenizer knows. Ids from here on are padding and are never drawn."""

    def __post_init__(self) -> None:
        for wrong, said in (
            (self.max_tokens < 1, f"max_tokens must be 1 or more, got {self.max_tokens}"),
            (self.min_tokens < 0, f"min_tokens must be 0 or more, got {self.min_tokens}"),
            (
                self.min_tokens > self.max_tokens,
                f"min_tokens ({self.min_tokens}) is beyond max_tokens ({self.max_tokens})",
            ),
            (
                not 0 <= self.temperature < math.inf,
                f"temperature must be 0 (greedy) or a positive number, got {self.temperature}",
            ),
            (
                self.top_k is not None and self.top_k < 1,
                f"top_k must be 1 or more, got {self.top_k}",
            ),
            (not 0 < self.top_p <= 1, f"top_p must lie in (0, 1], got {self.top_p}"),
            (not 0 <= self.min_p <= 1, f"min_p must lie in [0, 1], got {self.min_p}"),
            (any(t < 0 for t in self.stop_tokens), f"negative token in {self.stop_tokens=}"),
            ("" in self.stop_strings, "an empty stop string would end every answer at once"),
            (any(t < 0 for t in self.logit_bias), "negative token in logit_bias"),
            (
                any(math.isnan(b) or b == math.inf for b in self.logit_bias.values()),
                "a logit bias must be a number or -inf",
            ),
            (
                self.vocab_size is not None and self.vocab_size < 1,
                f"vocab_size must be 1 or more, got {self.vocab_size}",
            ),
        ):
            if wrong:
                raise UserError(f"sampling: {said}.")

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the settings that make the sampler draw from something else than the policy.

        Not among them: ``vocab_size``, which cuts off what a trained model never says, and
        ``min_tokens``, which forbids single tokens for a while. Both show in ``behaviour_logp``.
        """
        used = {
            "temperature=0": self.temperature == 0,
            "top_k": self.top_k is not None,
            "top_p": self.top_p < 1,
            "min_p": self.min_p > 0,
            "logit_bias": bool(self.logit_bias),
        }
        return tuple(name for name, on in used.items() if on)


@dataclass(frozen=True)
class Completion:
    """One answer, as it was drawn."""

    prompt_index: int
    """Place of its prompt in the list that was given."""
    answer_index: int
    """Which of the prompt's answers this is."""
    tokens: list[int]
    """The stop token included; what completed a stop string included."""
    logp: list[float]
    """log π of each token in nats: temperature applied, no filter (greedy: temperature 1)."""
    behaviour_logp: list[float]
    """The same under the distribution that the token was drawn from: 0 where it was forced."""
    finish_reason: FinishReason
    """``length`` where ``max_tokens`` cut the answer off."""
    versions: list[int] | None = None
    """Steps of learning behind the weights of each token, where these are handed over in the middle
    of answers; None elsewhere."""


@runtime_checkable
class Engine(Protocol):
    """Anything that answers prompts: embedded, or a server."""

    @property
    def exact(self) -> bool:
        """Whether ``logp`` is the learner's own, up to 1e-4 nats a token.

        False for weights of another precision or another program: what is learnt from such answers
        must weigh them by policy over sampler.
        """
        ...

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
        """``group`` answers for each prompt, in the order of the prompts.

        The same seed gives the same answers, whoever else is in the batch. ``numbers``: of the
        prompts, in rising order, where these are a part of others: random numbers are drawn, and
        answers name their prompt, by them. Its place is its number if none are given.
        """
        ...

    def sync(self, model: Any | None = None) -> None:
        """Take over the weights that ``model`` has now (by default the model it was made with)."""
        ...


@runtime_checkable
class Closing(Protocol):
    """An engine that has started something, such as a server."""

    def close(self) -> None:
        """End it."""
        ...


def end(engine: Any) -> None:
    """End what an engine has started, where it has."""
    if isinstance(engine, Closing):
        engine.close()


@contextmanager
def ended_after(engine: Any) -> Generator[None]:
    """What an engine has started is ended behind the block."""
    try:
        yield
    finally:
        end(engine)


def check_prompts(
    prompts: Sequence[Sequence[int]], params: SamplingParams, *, group: int, vocabulary: int
) -> None:
    """Refuse what cannot be answered.

    Raises:
        UserError: a prompt without tokens, no answers asked for, or a token the model lacks.

    """
    if group < 1:
        raise UserError(f"generate: group must be 1 or more answers per prompt, got {group}.")
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(
                f"generate: prompt {index} has no tokens. Give at least the tokenizer's bos token."
            )
    named = {f"prompt {index}": prompt for index, prompt in enumerate(prompts)}
    named |= {"stop_tokens": params.stop_tokens, "logit_bias": list(params.logit_bias)}
    for where, tokens in named.items():
        wrong = [t for t in tokens if not 0 <= t < vocabulary]
        if wrong:
            raise UserError(
                f"generate: {where} holds token {wrong[0]}, but the model knows {vocabulary} "
                "tokens. Was another model's tokenizer used?"
            )
