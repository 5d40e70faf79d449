"""The bodies of /v1/completions with token ids in and out, as vLLM extends OpenAI's protocol.

By vLLM's ``CompletionRequest``: ``return_token_ids`` (from vLLM 0.10.2 on; before it
``return_tokens_as_token_ids``, tokens as ``token_id:7``), ``stop_token_ids``, ``ignore_eos``,
``min_tokens``, ``top_k``, ``min_p``. Whatever is left out would be taken from the model's
generation config, so all of it is sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from backflip.errors import UserError
from backflip.generate.engine import Completion, FinishReason, SamplingParams

BIAS = 100.0
"""The largest bias that the protocol knows; as good as forbidden below zero."""
PADDING = 2048
"""Most ids without a token that are forbidden one by one."""
MARK = "token_id:"
UNSURE = float("nan")
Ask: TypeAlias = Callable[[str, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What is known of a server before its answers are read."""

    model: str
    processed: bool = False
    """Log-probabilities after temperature and filters (vLLM's ``processed_logprobs``)."""
    vocabulary: int
    """Tokens that the learner's model knows."""
    longest: int | None = None
    """Tokens of prompt and answer that the server takes; None where it does not say."""
    decode: Callable[[list[int]], str] | None = None


def request(said: Said, prompt: Sequence[int], params: SamplingParams, **more: Any) -> Any:
    """The body that asks for answers to one prompt. Raises UserError for what it cannot say."""
    bias = {token: max(amount, -BIAS) for token, amount in params.logit_bias.items()}
    if any(abs(amount) > BIAS for amount in bias.values()):
        raise UserError(
            f"engine: the protocol bounds a logit bias by {BIAS:g}, got {max(bias.values()):g}."
        )
    padding = range(params.vocab_size or said.vocabulary, said.vocabulary)
    if len(padding) <= PADDING:
        bias |= dict.fromkeys(padding, -BIAS)
    return {
        "model": said.model,
        "prompt": list(prompt),
        "max_tokens": params.max_tokens,
        "min_tokens": params.min_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k or -1,
        "min_p": params.min_p,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": True,
        "stop_token_ids": list(params.stop_tokens),
        "stop": list(params.stop_strings),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "add_special_tokens": False,
        "logit_bias": {str(token): amount for token, amount in bias.items()} or None,
        "logprobs": 1,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "stream": False,
        **more,
    }


def completed(
    ask: Ask, said: Said, prompt: tuple[int, Sequence[int]], how: tuple[SamplingParams, int, int]
) -> list[Completion]:
    """Answers to one prompt. Raises UserError where they are not what was asked for.

    ``ask``: a path of the server and a body → its answer; ``prompt``: with its number;
    ``how``: settings, answers a prompt, seed.
    """
    params, group, seed = how
    body = request(said, prompt[1], params, n=group, seed=seed_of(seed, prompt[0]))
    return answers_in(ask("completions", body), said, prompt, params, group)


def seed_of(seed: int, prompt: int) -> int:
    """A seed for a prompt, from which the server counts up, answer by answer."""
    return int(np.random.SeedSequence([seed, prompt]).generate_state(1, np.uint64)[0] >> 2)


def answers_in(
    answer: Any, said: Said, prompt: tuple[int, Sequence[int]], params: SamplingParams, group: int
) -> list[Completion]:
    """The completions of one prompt. Raises UserError where they are not what was asked for."""
    index, asked = prompt
    choices = answer.get("choices") if isinstance(answer, dict) else None
    where = f"engine: {said.model}'s answer to prompt {index}"
    if not isinstance(choices, list) or len(choices) != group:
        got = len(choices) if isinstance(choices, list) else "none"
        raise UserError(f"{where} has {got} choices; {group} were asked for.")
    read: dict[int, Completion] = {}
    for place, choice in enumerate(choices):
        number = choice.get("index", place) if isinstance(choice, dict) else None
        if not isinstance(number, int) or number in read or not 0 <= number < group:
            raise UserError(f"{where} has choices that are not numbered 0 to {group - 1}.")
        tokens = _tokens(choice, f"{where}, choice {number},", asked, said.vocabulary)
        logp = _logp(choice, f"{where}, choice {number},", len(tokens))
        reason = _reason(choice, f"{where}, choice {number},", tokens, params, said.decode)
        own, drawn = _readings(logp, params, processed=said.processed)
        read[number] = Completion(index, number, tokens, own, drawn, reason)
    done = [read[number] for number in range(group)]
    _check_seeds(done, where)
    return done


def _tokens(choice: Any, where: str, asked: Sequence[int], vocabulary: int) -> list[int]:
    tokens = choice.get("token_ids")
    if tokens is None:
        named = (choice.get("logprobs") or {}).get("tokens") or []
        ids = [str(name).removeprefix(MARK) for name in named if str(name).startswith(MARK)]
        tokens = [int(i) for i in ids if i.isdecimal()] if len(ids) == len(named) else None
    if not tokens or not all(type(token) is int for token in tokens):
        raise UserError(
            f"{where} comes without token ids. Text that is read again gives other tokens, so "
            "nothing could be learnt from it: the server must know return_token_ids (vLLM from "
            "0.10.2 on does)."
        )
    wrong = [token for token in tokens if not 0 <= token < vocabulary]
    if wrong:
        raise UserError(
            f"{where} holds token {wrong[0]}, but the policy knows {vocabulary} tokens: the server "
            "holds another model. Serve the one that learns."
        )
    read = choice.get("prompt_token_ids")
    if read is not None and list(read) != list(asked):
        raise UserError(
            f"{where} is one to other tokens ({len(read)} instead of {len(asked)}): the server "
            "changes prompts before it reads them."
        )
    return tokens


def _logp(choice: Any, where: str, length: int) -> list[float]:
    logp = (choice.get("logprobs") or {}).get("token_logprobs")
    if not isinstance(logp, list) or len(logp) != length:
        got = len(logp) if isinstance(logp, list) else "no"
        raise UserError(f"{where} has {got} log-probabilities for {length} tokens.")
    if not all(isinstance(x, int | float) and math.isfinite(x) and x < 1e-3 for x in logp):
        raise UserError(f"{where} has log-probabilities that are none: numbers up to 0 are.")
    return [min(float(x), 0.0) for x in logp]


def _reason(
    choice: Any,
    where: str,
    tokens: list[int],
    params: SamplingParams,
    decode: Callable[[list[int]], str] | None,
) -> FinishReason:
    said, count, most = choice.get("finish_reason"), len(tokens), params.max_tokens
    if count > most or (said == "length" and count < most):
        raise UserError(
            f"{where} has {count} tokens where max_tokens is {most}: the server has a limit of its "
            "own (vLLM's --max-model-len), or none."
        )
    if said == "length":
        return "length"
    if said == "stop" and tokens[-1] in params.stop_tokens:
        return "stop"
    text = decode(tokens) if decode and params.stop_strings else ""
    if said == "stop" and any(stop in text for stop in params.stop_strings):
        return "stop_string"
    raise UserError(
        f"{where} ended by {said!r} with token {tokens[-1]}, which is none of the stop tokens "
        f"{params.stop_tokens}: the server ends answers by rules of its own."
    )


def _readings(
    logp: list[float], params: SamplingParams, *, processed: bool
) -> tuple[list[float], list[float]]:
    """(log π, log-probability of what was drawn from); NaN where the server says neither."""
    unsure = [UNSURE] * len(logp)
    if params.temperature == 0:
        return (unsure if processed else logp), [0.0] * len(logp)
    if not params.filters:
        return logp, logp
    if processed:
        return unsure, logp
    return (logp if params.temperature == 1 else unsure), unsure


def _check_seeds(done: list[Completion], where: str) -> None:
    """Answers that are all alike, where chance would hardly make them so, share one seed."""
    first = done[0]
    if len(done) > 1 and all(c.tokens == first.tokens for c in done):
        likely = sum(first.behaviour_logp)
        if likely < -20:
            raise UserError(
                f"{where} is the same {len(done)} times, which chance would do once in "
                f"e^{-likely:.0f}: the server gives all choices the same random numbers."
            )
