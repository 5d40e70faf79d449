"""Getting to know a server before its answers are trusted: its name, tokenizer and scale."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import torch

from backflip.errors import UserError
from backflip.generate.engine import Completion, SamplingParams
from backflip.generate.openai.client import Client, RefusedError
from backflip.generate.openai.completions import Said, request
from backflip.models.dropout import evaluating
from backflip.text import counted

PROBE = "1 + 1 = 2;\n\tnaïve café 你好 <|end|> it's Backflip's"
"""A text that two tokenizers hardly read alike."""
SAME = 1e-2
"""Nats between two statements of one log-probability."""
ABSENT = (404, 405, 501)
NOTED, OTHER = 0.1, 0.5
"""Mean nats a token between server and policy: said from the first on, another model from the
second on. bfloat16 costs some 0.02."""


def address(url: str) -> str:
    """A server's address with its version. Raises UserError where it is none."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"engine.url={url} is no address; one is http://localhost:8000/v1.")
    bare = url.strip().rstrip("/")
    return bare if bare.endswith("/v1") else f"{bare}/v1"


def model_named(client: Client, wanted: str | None) -> tuple[str, int | None]:
    """(name of the model on the server, most tokens that it takes).

    Raises UserError where the server has no model of that name, or several and none was named.
    """
    answer = client.ask(f"{client.url}/models")
    cards = answer.get("data") if isinstance(answer, dict) else None
    known = {
        card["id"]: card.get("max_model_len")
        for card in cards or []
        if isinstance(card, dict) and isinstance(card.get("id"), str)
    }
    name = next(iter(known)) if wanted is None and len(known) == 1 else wanted
    if name is None or name not in known:
        has = "several models" if wanted is None and known else f"no model {wanted or ''}".strip()
        raise UserError(
            f"engine: the server at {client.url} has {has}. It has: "
            f"{', '.join(list(known)[:10]) or 'none'}. Set engine.model to one of them."
        )
    longest = known[name]
    return name, longest if isinstance(longest, int) else None


def check_tokenizer(client: Client, name: str, tokenizer: Any) -> None:
    """The server's tokens for a text must be the learner's; where it does not say, that is said.

    Raises UserError where they are others.
    """
    body = {"model": name, "prompt": PROBE, "add_special_tokens": False}
    try:
        answer = client.ask(f"{client.root}/tokenize", body)
    except RefusedError as error:
        if error.status not in ABSENT:
            raise
        warnings.warn(
            f"{client.root} has no /tokenize: whether its tokenizer is the policy's is not checked",
            stacklevel=5,
        )
        return
    theirs = answer.get("tokens") if isinstance(answer, dict) else None
    ours = tokenizer.encode(PROBE, add_special_tokens=False)
    if theirs != ours:
        raise UserError(
            f"engine: {name} at {client.url} has another tokenizer than the policy: a text of "
            f"{len(ours)} tokens is {theirs!r:.80} there. Serve the model that learns."
        )


def states_processed(client: Client, said: Said, prompts: Sequence[Sequence[int]]) -> bool:
    """Whether log-probabilities are stated after temperature and filters.

    Two temperatures tell, where the most likely token is not certain.
    """
    for prompt in (some for whole in prompts[:2] for some in (whole[:1], whole)):
        one, two = (_most_likely(client, said, prompt, t) for t in (1.0, 2.0))
        if one < -5 * SAME:
            return abs(one - two) > SAME
    return False


def _most_likely(client: Client, said: Said, prompt: Sequence[int], temperature: float) -> float:
    """The log-probability of the most likely first token."""
    params = SamplingParams(max_tokens=1, temperature=temperature)
    answer = client.ask(f"{client.url}/completions", request(said, prompt, params, n=1, seed=0))
    try:
        tops = answer["choices"][0]["logprobs"]["top_logprobs"][0]
        return max(float(value) for value in tops.values())
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"engine: {client.url} states no log-probabilities (logprobs=1); without them nothing "
            "can be learnt from its answers."
        ) from error


def check_weights(
    model: Any,
    answers: Sequence[tuple[Sequence[int], Completion]],
    params: SamplingParams,
    *,
    strict: bool,
    near: float | None = None,
) -> None:
    """Compare what the server says of answers with what the learner's model says of them.

    ``answers``: with their prompts. ``strict``: raises UserError where they are far apart; else
    that is only said. ``near``: nats a token that are between the two at most where the
    server was handed the weights; None, it was not.
    """
    far = [distance(model, prompt, answer, params) for prompt, answer in answers]
    apart = float(torch.cat(far).mean())
    said = f"log-probabilities of the server and of the policy are {apart:.2g} nats a token apart"
    if near is not None and apart > near and strict:
        raise UserError(
            f"engine: {said}, over {counted(len(answers), 'answer')} after weights were handed "
            "over: the server answers with others. Do both know the model in the same way?"
        )
    if apart > OTHER and strict:
        raise UserError(
            f"engine: {said}: the server holds other weights. Serve the folder that the run starts "
            "from (with adapters merged, or handed over by engine.adapters)."
        )
    if apart > NOTED:
        warnings.warn(said, stacklevel=4)


@torch.no_grad()
def distance(
    model: Any, prompt: Sequence[int], answer: Completion, params: SamplingParams
) -> torch.Tensor:
    """|log π − log μ| of each token of an answer, [T]."""
    device = next(model.parameters()).device
    rows = torch.tensor([[*prompt, *answer.tokens]], device=device)
    with evaluating(model):
        logits = model(input_ids=rows, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    ours = (logits / (params.temperature or 1.0)).log_softmax(-1)
    ours = ours.gather(1, rows[0, len(prompt) :, None])[:, 0].cpu()
    return (ours - torch.tensor(answer.logp)).abs()
