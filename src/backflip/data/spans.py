"""Where the assistant's turns stand in the text of a conversation: the prefix property.

The conversation up to an assistant's turn, rendered with the generation prompt, must be a prefix
of the whole, and what follows is the assistant's own, up to and including the token that ends the
turn. What a template writes behind that token is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from backflip.data.records import BadRecordError, Message, Messages
from backflip.data.rendering import PROBE, Renderer
from backflip.errors import UserError

Encode: TypeAlias = Callable[[Sequence[str]], list[list[int]]]
"""Texts as token ids, nothing added."""
SAID, CALLED = "Pong 40961.", "pong_40961"
"""What the assistant says, and calls, in a conversation that is made up to see what follows it."""


@dataclass(frozen=True)
class TurnEnd:
    """The end of an assistant's turn, as a template writes it."""

    token: int | None
    """Id that ends an answer; None where none is written."""
    tail: str
    """Text behind the end of the last answer, such as a line end."""


@dataclass(frozen=True)
class Rendered:
    """One conversation as text, with the places where the assistant's turns begin and end."""

    whole: str
    cuts: tuple[int, ...]
    """Characters of ``whole``, in turn the first of the assistant's own and the first behind."""
    learnt: tuple[bool, ...]
    """For each turn of the assistant, whether it is imitated."""

    def prefixes(self) -> list[str]:
        return [self.whole[:cut] for cut in self.cuts]


@dataclass(frozen=True)
class TurnFinder:
    """Finds the assistant's turns in what ``renderer`` writes."""

    renderer: Renderer
    end: TurnEnd

    def spans(self, prompt: Messages, answer: Messages) -> Rendered:
        """Render, find each turn of the assistant in the answer, and check the prefix property."""
        if not prompt:
            return self._plain_text(answer)
        messages = prompt + answer
        self.renderer.check_fields(messages)
        whole = self.renderer.text(messages, generate=False)
        cuts: list[int] = []
        for index in range(len(prompt), len(messages)):
            if messages[index].role != "assistant":
                continue
            head = self.renderer.text(messages[:index], generate=True)
            if not whole.startswith(head):
                raise broken(self.renderer, index, "the text before it changes when it is answered")
            cuts += [len(head), self._end_of_turn(messages, index, whole, len(head))]
        whole = whole[: cuts[-1]]
        if self.end.token is None:
            whole += self.renderer.tokenizer.eos_token
        learnt = tuple(message.learnt for message in answer if message.role == "assistant")
        if not any(learnt):
            raise BadRecordError("no turn is learnt", "each turn of the assistant has weight 0")
        return Rendered(whole, (*cuts[:-1], len(whole)), learnt)

    def _end_of_turn(self, messages: Messages, index: int, whole: str, start: int) -> int:
        """The character behind the assistant's own text, end-of-turn token included."""
        last = index == len(messages) - 1
        turn = whole if last else self.renderer.text(messages[: index + 1], generate=False)
        if whole.startswith(turn) and turn.endswith(self.end.tail):
            return len(turn) - len(self.end.tail)
        if self.end.token is None:
            raise broken(self.renderer, index, "its end moves when the conversation goes on")
        mark = self.renderer.tokenizer.convert_ids_to_tokens(self.end.token)
        place = whole.find(mark, start)
        if place < 0:
            raise broken(self.renderer, index, f"its turn does not end with {mark!r}")
        return place + len(mark)

    def following(self, messages: Messages) -> tuple[str, str, bool]:
        """(text up to the end of an assistant's turn, text from there to its next turn, whether
        the first is the same without the second), where ``messages`` stand between the two.

        Raises BadRecordError where the template drops a message, or its turns have no end.
        """
        talk = (PROBE[0], _asking(messages, self.renderer))
        self.renderer.check_fields(talk + messages)
        alone = self.renderer.text(talk, generate=False)
        whole = self.renderer.text(talk + messages, generate=True)
        cut = self._cut(whole)
        return whole[:cut], whole[cut:], alone.startswith(whole[:cut])

    def _cut(self, whole: str) -> int:
        """The character behind the end of the turn that was made up."""
        found = re.search(f"{re.escape(SAID)}|{CALLED}", whole)
        if found is None:
            raise broken(self.renderer, 1, "its text is left out")
        if self.end.token is None:
            return found.end()
        mark = self.renderer.tokenizer.convert_ids_to_tokens(self.end.token)
        place = whole.find(mark, found.end())
        if place < 0:
            raise broken(self.renderer, 1, f"its turn does not end with {mark!r}")
        return place + len(mark)

    def _plain_text(self, answer: Messages) -> Rendered:
        """Text without a prompt, for language modelling: a start token, the text, the end."""
        if len(answer) != 1:
            raise BadRecordError(
                "conversation begins with the assistant", "put a message of the user before it"
            )
        tokenizer = self.renderer.tokenizer
        end = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(self.end.token)
        start = tokenizer.bos_token or end
        text = start + answer[0].content + end
        return Rendered(text, (len(start), len(text)), (True,))


def _asking(messages: Messages, renderer: Renderer) -> Message:
    """A turn of the assistant that ``messages`` answer: with a call for each result of a tool."""
    results = [message.fields for message in messages if message.role == "tool"]
    if not results or "tool_calls" not in renderer.writes:
        return Message("assistant", SAID)
    calls = [
        {
            "type": "function",
            "id": fields.get("tool_call_id", f"call{number:05d}"),
            "function": {"name": CALLED, "arguments": {"a": "b"}},
        }
        for number, fields in enumerate(results)
    ]
    return Message("assistant", SAID, extra=json.dumps({"tool_calls": calls}))


def turn_end(renderer: Renderer, controls: Collection[int], encode: Encode) -> TurnEnd:
    """The end of a turn, seen in a conversation of one question and one answer.

    ``controls``: ids that no ordinary text produces. Raises UserError and BadRecordError for a
    template whose turns cannot be told from what stands around them.
    """
    head, whole = renderer.text(PROBE[:1], generate=True), renderer.text(PROBE, generate=False)
    place = whole.rfind(PROBE[1].content)
    if place < 0 or not whole.startswith(head):
        raise broken(renderer, 1, "the text before it changes when it is answered")
    if place < len(head):
        raise broken(renderer, 1, "its content stands inside the generation prompt")
    lead = whole[len(head) : place]
    if head == renderer.text(PROBE[:1], generate=False) and lead.strip():
        raise UserError(
            f"chat template {renderer.name!r} writes {lead!r} before an answer but ignores "
            "add_generation_prompt; set template=chatml|hh|plain"
        )
    after = whole[place + len(PROBE[1].content) :]
    for token in encode([after])[0]:
        if token in controls:
            mark = renderer.tokenizer.convert_ids_to_tokens(token)
            return TurnEnd(token, after[after.find(mark) + len(mark) :])
    if renderer.tokenizer.eos_token_id is None:
        raise UserError(
            f"chat template {renderer.name!r} ends no turn with a token, and the tokenizer has no "
            "end-of-sequence token; set one on the tokenizer"
        )
    return TurnEnd(None, after)


def broken(renderer: Renderer, index: int, what: str) -> BadRecordError:
    """The error of a template whose text of a conversation moves when it goes on."""
    return BadRecordError(
        f"chat template {renderer.name!r} breaks the prefix property ({what}; learn the last turn "
        "only with turns=last, or set template=chatml|hh|plain)",
        f"seen at message {index + 1}",
    )
