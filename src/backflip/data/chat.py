"""Messages → tokens, with the mask of the assistant's own tokens.

``rendering`` makes text of messages, ``spans`` finds the assistant's turns in it, and here both
become tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from backflip.data.conversations import split_at_first_answer
from backflip.data.records import BadRecordError, Message
from backflip.data.rendering import Renderer
from backflip.data.spans import Rendered, TurnFinder, turn_end
from backflip.progress import each, task

TOGETHER = 4096
"""Texts in one call of the tokenizer."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Turns:
    """A prompt and what follows it, as token ids."""

    prompt: list[int]
    answer: list[int]
    """From the first token of the assistant on, to the token that ends its last turn."""
    mask: list[bool]
    """Over ``answer``: True on the assistant's own tokens, False on later turns of others."""


class ChatTemplate:
    """The chat template of a tokenizer, or a named one for a model without.

    ``template`` is None (the tokenizer's own), ``chatml``, ``hh`` or ``plain``, a file of Jinja, or
    Jinja text. A template without a system role gets the system message in front of the first
    user message.
    """

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        self.tokenizer = tokenizer
        # Ids that no ordinary text produces.
        controls = frozenset((*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder))
        self.marks = tuple(tokenizer.convert_ids_to_tokens(sorted(controls)))
        """Control tokens as text. Inside a message they would be read as the template's own."""
        self._renderer = Renderer(tokenizer, template)
        self._end = turn_end(self._renderer, controls, self.encode)
        self.turns = TurnFinder(self._renderer, self._end)

    @property
    def name(self) -> str:
        """Of the template, or of the tokenizer that it came with."""
        return self._renderer.name

    @property
    def source(self) -> str:
        """Jinja text, to be saved with the model."""
        return self._renderer.source

    @property
    def system_role(self) -> bool:
        """Whether the template knows a system role; if not, the user's first message carries it."""
        return self._renderer.system_role

    @property
    def writes(self) -> dict[str, str]:
        """Fields of a message that the template writes beside its text, with their own names."""
        return self._renderer.writes

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids that end the assistant's turn: end-of-turn, and end-of-sequence where it differs."""
        ends = [self._end.token, self.tokenizer.eos_token_id]
        return tuple(dict.fromkeys(end for end in ends if end is not None))

    @property
    def turn_end(self) -> int | None:
        """Id that the template writes at the end of an answer; None where it writes none."""
        return self._end.token

    @property
    def tail(self) -> str:
        """Text behind the end of the last answer, such as a line end."""
        return self._end.tail

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation, ready for the assistant to speak."""
        return _raised(self.prompts([messages])[0])

    def prompts(self, many: Sequence[Sequence[Message]]) -> list[list[int] | BadRecordError]:
        """The same for many conversations, in one call of the tokenizer.

        A conversation that the template cannot take gives its error in place of tokens.
        """
        told = each(many, "applying the template", len(many), "prompts")
        rendered = [_attempt(self._renderer.asked, tuple(messages)) for messages in told]
        tokens = iter(self.encode([text for text in rendered if isinstance(text, str)]))
        return [next(tokens) if isinstance(text, str) else text for text in rendered]

    def answer(
        self, prompt: Sequence[Message], answer: Sequence[Message]
    ) -> tuple[list[int], list[int], list[bool]]:
        """Tokens of the prompt, tokens of the answer, and the mask over the answer."""
        turns = _raised(self.answers([(prompt, answer)])[0])
        return turns.prompt, turns.answer, turns.mask

    def answers(
        self, many: Sequence[tuple[Sequence[Message], Sequence[Message]]]
    ) -> list[Turns | BadRecordError]:
        """The same for many (prompt, answer), in one call of the tokenizer.

        A conversation that the template cannot take gives its error in place of tokens.
        """
        told = each(many, "applying the template", len(many), "answers")
        rendered = [_attempt(self.turns.spans, tuple(p), tuple(a)) for p, a in told]
        good = [r for r in rendered if isinstance(r, Rendered)]
        texts = list(dict.fromkeys(text for r in good for text in r.prefixes()))
        tokens = dict(zip(texts, self.encode(texts), strict=True))
        return [
            _attempt(self._tokens, r, tokens) if isinstance(r, Rendered) else r for r in rendered
        ]

    def conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Tokens of a whole conversation and the mask of all that the assistant said in it."""
        prompt, answer = split_at_first_answer(messages)
        tokens, rest, mask = self.answer(prompt, answer)
        return tokens + rest, [False] * len(tokens) + mask

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, nothing added."""
        rows: list[list[int]] = []
        with task("tokenising", len(texts), "texts") as under_way:
            for start in range(0, len(texts), TOGETHER):
                encoded = self.tokenizer(
                    list(texts[start : start + TOGETHER]),
                    add_special_tokens=False,
                    return_attention_mask=False,
                    verbose=False,
                )
                rows += [list(ids) for ids in encoded["input_ids"]]
                under_way.reach(len(rows))
        return rows

    def _tokens(self, rendered: Rendered, tokens: Mapping[str, list[int]]) -> Turns:
        """Each piece is what its prefix adds; where tokens merge over a seam, tokenise apart."""
        head, *prefixes = rendered.prefixes()
        before, answer, mask = tokens[head], list[int](), list[bool]()
        for number, prefix in enumerate(prefixes):
            upto = tokens[prefix]
            if upto[: len(before)] == before:
                piece = upto[len(before) :]
            else:
                start = rendered.cuts[number]
                piece = self.apart(prefix[start:], before, upto)
            answer += piece
            mask += [number % 2 == 0 and rendered.learnt[number // 2]] * len(piece)
            before = before + piece
        return Turns(tokens[head], answer, mask)

    def apart(self, text: str, before: list[int], upto: list[int]) -> list[int]:
        """Tokens of ``text`` as a model writes them that has just read ``before``."""
        piece = self.encode([text])[0]
        decoded = self.tokenizer.decode(before + piece, clean_up_tokenization_spaces=False)
        expected = self.tokenizer.decode(upto, clean_up_tokenization_spaces=False)
        if decoded != expected:
            raise BadRecordError(
                f"chat template {self.name!r} merges tokens over the start of an answer (set "
                "template=chatml|hh|plain)",
                f"seen at {text[:30]!r}",
            )
        return piece


def _attempt(what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | BadRecordError:
    try:
        return what(*args, **kwargs)
    except BadRecordError as error:
        return error


def _raised(result: T | BadRecordError) -> T:
    if isinstance(result, BadRecordError):
        raise result
    return result
