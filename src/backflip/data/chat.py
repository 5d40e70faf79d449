"""Messages ↔ tokens, with the mask of the assistant's own tokens. The only file about templates.

The mask comes from the prefix property: the conversation up to an assistant's turn, rendered with
the generation prompt, must be a prefix of the whole, and what follows is the assistant's own, up to
and including the token that ends the turn. What a template writes behind that token is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from backflip.data.conversations import split_at_first_answer
from backflip.data.records import BadRecordError, Message, Messages
from backflip.data.template_fields import NEEDED, fields_of, written
from backflip.data.templates import BUILT_IN, template_text
from backflip.errors import UserError
from backflip.progress import each, task

TOGETHER = 4096
"""Texts in one call of the tokenizer."""
P = ParamSpec("P")
T = TypeVar("T")
PROBE = (Message("user", "Ping?"), Message("assistant", "Pong."))


@dataclass(frozen=True)
class Turns:
    """A prompt and what follows it, as token ids."""

    prompt: list[int]
    answer: list[int]
    """From the first token of the assistant on, to the token that ends its last turn."""
    mask: list[bool]
    """Over ``answer``: True on the assistant's own tokens, False on later turns of others."""


@dataclass(frozen=True)
class _Rendered:
    """One conversation as text, with the places where the assistant's turns begin and end."""

    whole: str
    cuts: tuple[int, ...]
    """Characters of ``whole``, in turn the first of the assistant's own and the first behind."""
    learnt: tuple[bool, ...]
    """For each turn of the assistant, whether it is imitated."""

    def prefixes(self) -> list[str]:
        return [self.whole[:cut] for cut in self.cuts]


class ChatTemplate:
    """The chat template of a tokenizer, or a named one for a model without.

    ``template`` is None (the tokenizer's own), ``chatml``, ``hh`` or ``plain``, a file of Jinja, or
    Jinja text. A template without a system role gets the system message in front of the first
    user message.
    """

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.name = _name_of(tokenizer, template)
        self.source = _source_of(tokenizer, template, self.name)
        """Jinja text, to be saved with the model."""
        # Ids that no ordinary text produces.
        self._ends = frozenset((*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder))
        self.marks = tuple(tokenizer.convert_ids_to_tokens(sorted(self._ends)))
        """Control tokens as text. Inside a message they would be read as the template's own."""
        self.system_role = self._takes_system()
        """Whether the template knows a system role; if not, the user's first message carries it."""
        self._turn_end, self._tail = self._probe()

    # ---- what callers use

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids that end the assistant's turn: end-of-turn, and end-of-sequence where it differs."""
        ends = [self._turn_end, self.tokenizer.eos_token_id]
        return tuple(dict.fromkeys(end for end in ends if end is not None))

    @property
    def turn_end(self) -> int | None:
        """Id that the template writes at the end of an answer; None where it writes none."""
        return self._turn_end

    @property
    def tail(self) -> str:
        """Text behind the end of the last answer, such as a line end."""
        return self._tail

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation, ready for the assistant to speak."""
        return _raised(self.prompts([messages])[0])

    def prompts(self, many: Sequence[Sequence[Message]]) -> list[list[int] | BadRecordError]:
        """The same for many conversations, in one call of the tokenizer.

        A conversation that the template cannot take gives its error in place of tokens.
        """
        told = each(many, "applying the template", len(many), "prompts")
        rendered = [_attempt(self._asked, tuple(messages)) for messages in told]
        tokens = iter(self._encode([text for text in rendered if isinstance(text, str)]))
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
        rendered = [_attempt(self._spans, tuple(p), tuple(a)) for p, a in told]
        good = [r for r in rendered if isinstance(r, _Rendered)]
        texts = list(dict.fromkeys(text for r in good for text in r.prefixes()))
        tokens = dict(zip(texts, self._encode(texts), strict=True))
        return [
            _attempt(self._turns, r, tokens) if isinstance(r, _Rendered) else r for r in rendered
        ]

    def conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Tokens of a whole conversation and the mask of all that the assistant said in it."""
        prompt, answer = split_at_first_answer(messages)
        tokens, rest, mask = self.answer(prompt, answer)
        return tokens + rest, [False] * len(tokens) + mask

    # ---- text

    def _asked(self, messages: Messages) -> str:
        self._check_fields(messages)
        return self._render(messages, True)

    def _render(self, messages: Sequence[Message], generate: bool) -> str:
        from jinja2.exceptions import TemplateError

        if not self.system_role:
            messages = _fold_system(messages)
        rows = [self._row(message) for message in messages]
        tools = json.loads(messages[0].tools) if messages and messages[0].tools else None
        try:
            return self._applied(rows, tools, generate)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise BadRecordError(
                f"chat template {self.name!r} refuses the conversation ({error})",
                f"its roles are {', '.join(m.role for m in messages)}",
            ) from error

    def _applied(self, rows: Any, tools: Any, generate: bool) -> str:
        return self.tokenizer.apply_chat_template(
            rows,
            tools=tools,
            chat_template=self.source,
            tokenize=False,
            add_generation_prompt=generate,
        )

    def _row(self, message: Message) -> dict[str, Any]:
        """A message as the template takes it, its further fields under the names that it knows."""
        row: dict[str, Any] = {"role": message.role, "content": message.content}
        return row | {self.writes.get(name, name): one for name, one in message.fields.items()}

    @cached_property
    def writes(self) -> dict[str, str]:
        """Fields of a message that the template writes beside its text; see ``written``."""

        def render(rows: Any, tools: Any) -> str | None:
            try:
                return self._applied(rows, tools, False)
            except Exception:  # Jinja passes on whatever a filter raises.
                return None

        return written(render)

    def _check_fields(self, messages: Messages) -> None:
        """Raises BadRecordError for a call, a tool or a thought that the template would drop."""
        lost = [name for name in NEEDED if name in fields_of(messages) and name not in self.writes]
        if lost:
            named = ", ".join("results of tools" if name == "tool" else name for name in lost)
            raise BadRecordError(
                f"chat template {self.name!r} does not write {named}",
                "remove it from the row, or set template= to one that does",
            )

    def _spans(self, prompt: Messages, answer: Messages) -> _Rendered:
        """Render, find each turn of the assistant in the answer, and check the prefix property."""
        if not prompt:
            return self._plain_text(answer)
        messages = prompt + answer
        self._check_fields(messages)
        whole = self._render(messages, False)
        cuts: list[int] = []
        for index in range(len(prompt), len(messages)):
            if messages[index].role != "assistant":
                continue
            head = self._render(messages[:index], True)
            if not whole.startswith(head):
                raise self._broken(index, "the text before it changes when it is answered")
            cuts += [len(head), self._end_of_turn(messages, index, whole, len(head))]
        whole = whole[: cuts[-1]]
        if self._turn_end is None:
            whole += self.tokenizer.eos_token
        learnt = tuple(message.learnt for message in answer if message.role == "assistant")
        if not any(learnt):
            raise BadRecordError("no turn is learnt", "each turn of the assistant has weight 0")
        return _Rendered(whole, (*cuts[:-1], len(whole)), learnt)

    def _end_of_turn(self, messages: Messages, index: int, whole: str, start: int) -> int:
        """The character behind the assistant's own text, end-of-turn token included."""
        last = index == len(messages) - 1
        turn = whole if last else self._render(messages[: index + 1], False)
        if whole.startswith(turn) and turn.endswith(self._tail):
            return len(turn) - len(self._tail)
        if self._turn_end is None:
            raise self._broken(index, "its end moves when the conversation goes on")
        mark = self.tokenizer.convert_ids_to_tokens(self._turn_end)
        place = whole.find(mark, start)
        if place < 0:
            raise self._broken(index, f"its turn does not end with {mark!r}")
        return place + len(mark)

    def _plain_text(self, answer: Messages) -> _Rendered:
        """Text without a prompt, for language modelling: a start token, the text, the end."""
        if len(answer) != 1:
            raise BadRecordError(
                "conversation begins with the assistant", "put a message of the user before it"
            )
        end = self.tokenizer.eos_token or self.tokenizer.convert_ids_to_tokens(self._turn_end)
        start = self.tokenizer.bos_token or end
        text = start + answer[0].content + end
        return _Rendered(text, (len(start), len(text)), (True,))

    def _broken(self, index: int, what: str) -> BadRecordError:
        return BadRecordError(
            f"chat template {self.name!r} breaks the prefix property ({what}; learn the last turn "
            "only with turns=last, or set template=chatml|hh|plain)",
            f"seen at message {index + 1}",
        )

    # ---- tokens

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
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

    def _turns(self, rendered: _Rendered, tokens: Mapping[str, list[int]]) -> Turns:
        """Each piece is what its prefix adds; where tokens merge over a seam, tokenise apart."""
        head, *prefixes = rendered.prefixes()
        before, answer, mask = tokens[head], list[int](), list[bool]()
        for number, prefix in enumerate(prefixes):
            upto = tokens[prefix]
            if upto[: len(before)] == before:
                piece = upto[len(before) :]
            else:
                start = rendered.cuts[number]
                piece = self._apart(prefix[start:], before, upto)
            answer += piece
            mask += [number % 2 == 0 and rendered.learnt[number // 2]] * len(piece)
            before = before + piece
        return Turns(tokens[head], answer, mask)

    def _apart(self, text: str, before: list[int], upto: list[int]) -> list[int]:
        """Tokens of ``text`` as a model writes them that has just read ``before``."""
        piece = self._encode([text])[0]
        decoded = self.tokenizer.decode(before + piece, clean_up_tokenization_spaces=False)
        expected = self.tokenizer.decode(upto, clean_up_tokenization_spaces=False)
        if decoded != expected:
            raise BadRecordError(
                f"chat template {self.name!r} merges tokens over the start of an answer (set "
                "template=chatml|hh|plain)",
                f"seen at {text[:30]!r}",
            )
        return piece

    # ---- what the template is like

    def _takes_system(self) -> bool:
        self.system_role = True
        try:
            text = self._render((Message("system", "Sys-probe"), *PROBE), False)
        except BadRecordError:
            return False
        return "Sys-probe" in text

    def _probe(self) -> tuple[int | None, str]:
        """The token that ends a turn (None: none is written) and the text behind it."""
        head, whole = self._render(PROBE[:1], True), self._render(PROBE, False)
        place = whole.rfind(PROBE[1].content)
        if place < 0 or not whole.startswith(head):
            raise self._broken(1, "the text before it changes when it is answered")
        if place < len(head):
            raise self._broken(1, "its content stands inside the generation prompt")
        lead = whole[len(head) : place]
        if head == self._render(PROBE[:1], False) and lead.strip():
            raise UserError(
                f"chat template {self.name!r} writes {lead!r} before an answer but ignores "
                "add_generation_prompt; set template=chatml|hh|plain"
            )
        after = whole[place + len(PROBE[1].content) :]
        for token in self._encode([after])[0]:
            if token in self._ends:
                mark = self.tokenizer.convert_ids_to_tokens(token)
                return token, after[after.find(mark) + len(mark) :]
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                f"chat template {self.name!r} ends no turn with a token, and the tokenizer has no "
                "end-of-sequence token; set one on the tokenizer"
            )
        return None, after


def _attempt(what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | BadRecordError:
    try:
        return what(*args, **kwargs)
    except BadRecordError as error:
        return error


def _raised(result: T | BadRecordError) -> T:
    if isinstance(result, BadRecordError):
        raise result
    return result


def _fold_system(messages: Sequence[Message]) -> Sequence[Message]:
    if len(messages) < 2 or messages[0].role != "system" or messages[1].role != "user":
        return messages
    text = f"{messages[0].content}\n\n{messages[1].content}"
    first = replace(messages[1], content=text, tools=messages[0].tools)
    return (first, *messages[2:])


def _name_of(tokenizer: Any, template: str | None) -> str:
    if template in BUILT_IN:
        return str(template)
    if template is not None:
        return "custom" if "{" in template else template
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)


def _source_of(tokenizer: Any, template: str | None, name: str) -> str:
    if template is None:
        if not tokenizer.chat_template:
            raise UserError(
                f"the tokenizer of {name} has no chat template; set template=chatml, template=hh, "
                "template=plain or template=FILE.jinja"
            )
        try:
            return tokenizer.get_chat_template()
        except ValueError as error:
            raise UserError(
                f"the tokenizer of {name} has several chat templates and none called default; "
                "set template to a file with one of them, or to chatml, hh or plain"
            ) from error
    if template not in BUILT_IN:
        return template_text(template)
    _check_built_in(tokenizer, template)
    ids = tokenizer("a")["input_ids"]
    bos = tokenizer.bos_token_id
    adds_bos = bos is not None and len(ids) > 0 and ids[0] == bos
    return ("{{ bos_token }}" if adds_bos else "") + BUILT_IN[template]


def _check_built_in(tokenizer: Any, template: str) -> None:
    if template == "chatml":
        ids = tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise UserError(
                "template=chatml needs a tokenizer with the token <|im_end|>, and this one has "
                "none; set template=hh or template=plain"
            )
    elif tokenizer.eos_token is None:
        raise UserError(
            f"template={template} ends answers with the end-of-sequence token, and this tokenizer "
            "has none; set eos_token on the tokenizer"
        )
