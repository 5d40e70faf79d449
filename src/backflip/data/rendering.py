"""Messages → text, by a chat template.

The template is Jinja: the tokenizer's own, a named one, or a file. It is applied to messages whose
fields have the names that it knows, and what it would drop is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from backflip.data.records import BadRecordError, Message, Messages
from backflip.data.template_fields import NEEDED, fields_of, written
from backflip.data.templates import BUILT_IN, template_text
from backflip.errors import UserError

PROBE = (Message("user", "Ping?"), Message("assistant", "Pong."))


class Renderer:
    """A chat template as a function from messages to text. ``template``: see ``ChatTemplate``."""

    def __init__(self, tokenizer: Any, template: str | None) -> None:
        self.tokenizer = tokenizer
        self.name = _name_of(tokenizer, template)
        self.source = _source_of(tokenizer, template, self.name)
        """Jinja text."""
        self.system_role = self._takes_system()
        """Whether the template knows a system role; if not, the user's first message carries it."""

    def asked(self, messages: Messages) -> str:
        """The conversation with the generation prompt, no field of it dropped."""
        self.check_fields(messages)
        return self.text(messages, generate=True)

    def text(self, messages: Sequence[Message], *, generate: bool) -> str:
        """The conversation; ``generate``: with the generation prompt at its end.

        Raises BadRecordError where the template refuses it.
        """
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

    def check_fields(self, messages: Messages) -> None:
        """Raises BadRecordError for a call, a tool or a thought that the template would drop."""
        lost = [name for name in NEEDED if name in fields_of(messages) and name not in self.writes]
        if lost:
            named = ", ".join("results of tools" if name == "tool" else name for name in lost)
            raise BadRecordError(
                f"chat template {self.name!r} does not write {named}",
                "remove it from the row, or set template= to one that does",
            )

    def _takes_system(self) -> bool:
        self.system_role = True
        try:
            text = self.text((Message("system", "Sys-probe"), *PROBE), generate=False)
        except BadRecordError:
            return False
        return "Sys-probe" in text


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
