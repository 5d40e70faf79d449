"""Calls of tools in what a policy wrote: in the chat template's own form, or in a plain one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from backflip.data.chat import ChatTemplate
from backflip.data.records import BadRecordError, Message

__all__ = ["Call", "CallFormat", "Malformed", "PlainCalls", "TaggedCalls", "native_calls"]

NAME = "probe_call"
ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True)
class Call:
    """A tool's name and what it is given."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Malformed:
    """A call that cannot be read, and why."""

    reason: str


Calls: TypeAlias = list[Call | Malformed]


class CallFormat(Protocol):
    """The form in which calls are written."""

    def read(self, text: str) -> Calls:
        """The calls in a turn, in their order."""
        ...


@dataclass(frozen=True)
class TaggedCalls:
    """JSON objects between two marks, as in ``<tool_call>{"name": …}</tool_call>`` (Hermes, Qwen).

    Without marks (Llama 3) a turn that begins with a brace is a call as a whole.
    """

    opens: str
    closes: str

    def read(self, text: str) -> Calls:
        return [call for body in self._bodies(text) for call in _parsed(body)]

    def _bodies(self, text: str) -> Iterator[str | Malformed]:
        if not self.opens:
            whole = text.strip()
            if whole.startswith(("{", "[")):
                yield whole
            return
        for piece in text.split(self.opens)[1:]:
            body, closed, _ = piece.partition(self.closes) if self.closes else (piece, "", "")
            if self.closes and not closed:
                yield Malformed(f"the call is not closed by {self.closes}")
            else:
                yield body.strip()


def _parsed(body: str | Malformed) -> Iterator[Call | Malformed]:
    if isinstance(body, Malformed):
        yield body
        return
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        yield Malformed(f"the call is no JSON ({str(error)[:80]})")
        return
    for one in found if isinstance(found, list) else [found]:
        yield _call(one)


def _call(one: Any) -> Call | Malformed:
    if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
        return Malformed("a call is a JSON object with a name and its arguments")
    given = next((one[key] for key in ARGUMENTS if key in one), {})
    try:
        given = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, Mapping):
        return Malformed("the arguments of a call are a JSON object")
    return Call(one["name"], given)


@dataclass(frozen=True)
class PlainCalls:
    """Lines ``NAME: ARGUMENT``, for models whose template knows no calls.

    What follows the colon, down to the next call or the end of the turn, is the argument of a tool
    with one parameter; tools with several are given a JSON object.
    """

    parameters: Mapping[str, Mapping[str, Callable[[str], Any]]]
    """By tool and parameter, how its text is read."""

    def read(self, text: str) -> Calls:
        names = "|".join(map(re.escape, sorted(self.parameters, key=len, reverse=True)))
        heads = list(re.finditer(rf"^[ \t]*({names})[ \t]*:", text, re.MULTILINE))
        ends = [*(head.start() for head in heads[1:]), len(text)][: len(heads)]
        return [
            self._one(head[1], text[head.end() : end].strip())
            for head, end in zip(heads, ends, strict=True)
        ]

    def _one(self, name: str, body: str) -> Call | Malformed:
        parameters = self.parameters[name]
        if len(parameters) == 1:
            ((only, read),) = parameters.items()
            try:
                return Call(name, {only: read(body)})
            except ValueError as error:
                return Malformed(f"{only}: {error}")
        try:
            given = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, Mapping):
            return Call(name, given)
        return Malformed(f"{name} takes a JSON object with {', '.join(parameters)}")


def native_calls(template: ChatTemplate) -> TaggedCalls | None:
    """The form in which a chat template writes calls, tools and results; None where it lacks one
    of the three, or writes calls as something else than JSON.
    """
    if not {"tool_calls", "tools", "tool"} <= set(template.writes):
        return None
    function = {"name": NAME, "arguments": {"a": "b"}}
    calls = [{"type": "function", "id": "call00000", "function": function}]
    asked = (Message("user", "Ping?"),)
    called = Message("assistant", "", extra=json.dumps({"tool_calls": calls}))
    try:
        head = template.turns.renderer.text(asked, generate=True)
        whole = template.turns.renderer.text((*asked, called), generate=False)
    except BadRecordError:
        return None
    return _around(whole[len(head) :], template) if whole.startswith(head) else None


def _around(turn: str, template: ChatTemplate) -> TaggedCalls | None:
    """The marks around the JSON of the probed call in the text of its turn."""
    for place in (match.start() for match in re.finditer(r"[\[{]", turn)):
        try:
            value, end = json.JSONDecoder().raw_decode(turn, place)
        except ValueError:
            continue
        if Call(NAME, {"a": "b"}) in _each(value):
            behind = turn[end:]
            if template.turn_end is not None:
                mark = template.tokenizer.convert_ids_to_tokens(template.turn_end)
                behind = behind.partition(mark)[0]
            return TaggedCalls(turn[:place].strip(), behind.strip())
    return None


def _each(value: Any) -> Sequence[Call | Malformed]:
    return [_call(one) for one in (value if isinstance(value, list) else [value])]
