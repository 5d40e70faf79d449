"""Which fields of a message a chat template writes beside its text, found out by trying.

A field is known where words that stand in it alone appear in what the template makes of some short
conversation. Nothing is read from the template's source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from backflip.data.records import Message
from backflip.data.turns import BESIDE, REASONING

Render: TypeAlias = Callable[[list[dict[str, Any]], list[dict[str, Any]] | None], str | None]
"""Messages and tools as text; None where the template refuses them."""
NEEDED = ("tool_calls", "tools", "reasoning", "tool")
"""Fields without which a conversation is another one; ``tool`` is the role of a tool's result."""
THOUGHT, RESULT, CALL, TOOL = "probed thought", "probed result", "probe_call", "probe_tool"
ID, NAME = "probeid00", "probe_name"
_ASK: dict[str, Any] = {"role": "user", "content": "Ping?"}
_SAY: dict[str, Any] = {"role": "assistant", "content": "Pong."}
_CALLS = [
    {"type": "function", "id": ID, "function": {"name": CALL, "arguments": {"a": "b"}}},
]
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": TOOL,
            "description": "Answers.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "string", "description": "Any."}},
                "required": ["a"],
            },
        },
    }
]


def written(render: Render) -> dict[str, str]:
    """By each field that the template writes, the name under which it reads it."""
    found: dict[str, str] = {}
    for name, marks, row in _probes():
        for talk in _talks(row):
            for tools in (None, _TOOLS):
                text = render(talk, tools)
                if text is not None and any(mark in text for mark in marks):
                    found.setdefault(name, _own_name(name, row))
    if TOOL in (render([_ASK], _TOOLS) or "") or TOOL in (render([_ASK, _SAY], _TOOLS) or ""):
        found["tools"] = "tools"
    return found


def _probes() -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
    """(Field, words that stand in it alone, a message that has it)."""
    yield "tool_calls", (CALL,), {"role": "assistant", "content": "", "tool_calls": _CALLS}
    yield "tool", (RESULT,), {"role": "tool", "content": RESULT}
    for name in REASONING:
        yield "reasoning", (THOUGHT,), {**_SAY, name: THOUGHT}
    for name in BESIDE:
        mark = ID if name == "tool_call_id" else NAME
        for role in ("tool", "assistant", "user"):
            yield name, (mark,), {"role": role, "content": RESULT, name: mark}


def _own_name(field: str, row: dict[str, Any]) -> str:
    return next((name for name in REASONING if name in row), field)


def _talks(row: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Conversations in which this message has its place."""
    calls = [{**_CALLS[0], "id": "othercall"}]
    asked = {"role": "assistant", "content": "", "tool_calls": calls}
    if row["role"] == "tool":
        answered = {"tool_call_id": "othercall", "name": CALL} | row
        yield [_ASK, asked, answered, _SAY]
        yield [_ASK, asked, answered]
        yield [_ASK, asked, row, _SAY]
    elif row["role"] == "user":
        yield [row, _SAY]
    else:
        yield [_ASK, row]
        result = {"role": "tool", "content": "Done.", "tool_call_id": ID, "name": CALL}
        yield [_ASK, row, result, _SAY]
        yield [_ASK, {**row, "tool_calls": _CALLS}, result, _SAY]


def fields_of(messages: Sequence[Message]) -> set[str]:
    """Fields of these messages beside text, by the names of ``written``."""
    found = {name for message in messages if message.extra for name in message.fields}
    found |= {"tools"} if any(message.tools for message in messages) else set()
    return found | ({"tool"} if any(message.role == "tool" for message in messages) else set())
