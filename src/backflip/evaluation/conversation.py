"""Talking to a model: what was said so far, and replies that appear as they are written."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from backflip.data.chat import ChatTemplate
from backflip.data.records import Message
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import suited
from backflip.generate.torch.engine import TorchEngine
from backflip.models.load import load_causal, load_tokenizer

Hear = Callable[[str], None]
UNFINISHED = "\ufffd"
"""The end of a text whose last letter is not whole yet."""


class Conversation:
    """A chat with one model, which remembers all turns.

    >>> chat = Conversation("runs/ppo/model")
    >>> chat.say("I cannot sleep.")
    """

    def __init__(
        self,
        model: str | Path,
        *,
        template: str | None = None,
        max_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
    ) -> None:
        """``model``: a folder, a hub name or smollm2. ``max_tokens``: of one reply.

        ``temperature`` 0 always takes the most likely token; ``top_p`` and ``min_p`` leave out
        unlikely ones, as in ``SamplingParams``; ``template`` as in a recipe.
        """
        self.name = str(model)
        tokenizer = load_tokenizer(self.name)
        self._template = ChatTemplate(tokenizer, template)
        causal = load_causal(self.name)
        self._decode: Callable[[list[int]], str] = tokenizer.decode
        self._engine = TorchEngine(causal, max_rows=1, decode=self._decode)
        params = SamplingParams(
            max_tokens=max_tokens, temperature=temperature, top_p=top_p, min_p=min_p
        )
        self._params = suited(params, self._template, causal)
        self._seeds = itertools.count(seed)
        self.messages: list[Message] = []

    def say(self, text: str, hear: Hear | None = None) -> str:
        """Say something; returns the reply, and tells ``hear`` each piece of it when it is there.

        Raises UserError for an empty text.
        """
        asked = [*self.messages, Message("user", text)]
        told = _Teller(self._decode, set(self._template.stop_tokens), hear)
        prompt = self._template.prompt(asked)
        self._engine.generate(
            [prompt], self._params, seed=next(self._seeds), progress=lambda _p, _a, t: told(t)
        )
        reply = told.finish()
        # An empty reply cannot stand in a conversation, so the question is not kept either.
        if reply.strip():
            self.messages = [*asked, Message("assistant", reply)]
        return reply

    def reset(self) -> None:
        """Forget all that was said."""
        self.messages = []


class _Teller:
    """Turns tokens into text as they come, never half a letter."""

    def __init__(
        self, decode: Callable[[list[int]], str], ends: set[int], hear: Hear | None
    ) -> None:
        self.decode, self.ends, self.hear = decode, ends, hear
        self.tokens: list[int] = []
        self.told = ""

    def __call__(self, token: int) -> None:
        if token in self.ends:
            return
        self.tokens.append(token)
        text = self.decode(self.tokens)
        if not text.endswith(UNFINISHED):
            self._tell(text)

    def finish(self) -> str:
        """The whole reply; what was held back is told now."""
        self._tell(self.decode(self.tokens) if self.tokens else "")
        return self.told.strip()

    def _tell(self, text: str) -> None:
        new, self.told = text[len(self.told) :], text
        if new and self.hear is not None:
            self.hear(new)
