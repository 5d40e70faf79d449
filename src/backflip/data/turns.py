"""One message of a conversation, in the dialects of data: OpenAI's, ShareGPT's and their kin.

A field that is not listed here is read by nobody, and ``KEYS`` is how a reader of rows knows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from backflip.data.media import is_media
from backflip.data.records import BadRecordError, Message

ROLE, CONTENT = ("role", "from"), ("content", "value")
WEIGHTS = ("weight", "train", "training", "loss")
"""Whether a turn is learnt: OpenAI's number 0 or 1, or the truth values of Axolotl and ms-swift."""
REASONING = ("reasoning_content", "reasoning", "thinking")
CALLS = ("tool_calls", "function_call")
BESIDE = ("tool_call_id", "name")
TOOLS = ("tools", "functions")
"""Tools that a conversation may call, in a column of the row or in a message."""
KEYS = frozenset((*ROLE, *CONTENT, *WEIGHTS, *REASONING, *CALLS, *BESIDE, *TOOLS))
"""Every field of a message that is read."""
ROLES = {
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "model", "bot", "chatgpt", "ai", "function_call"), "assistant"),
    **dict.fromkeys(("function", "observation", "function_response"), "tool"),
    "developer": "system",
}
"""Names that other datasets use (ShareGPT, Gemma, OpenAssistant, LLaMA-Factory, OpenAI)."""
TEXTS = ("text", "input_text", "output_text")
"""Types of the parts of a content that are text."""


def message_of(column: str, row: Any) -> Message | None:
    """The message in a mapping; None for a system message that says nothing.

    Raises BadRecordError for what is no message, and for a content that is more than text.
    """
    if not isinstance(row, Mapping):
        raise BadRecordError(
            f"column {column!r} holds something that is no message", "give {role, content}"
        )
    fields = cast("Mapping[str, Any]", row)
    media = [name for name, value in fields.items() if name not in KEYS and is_media(name, value)]
    if media:
        raise BadRecordError(
            f"a message holds something other than text ({media[0]!r})", "remove the row"
        )
    named = str(_first(fields, ROLE) or "none")
    role = ROLES.get(named.lower(), named.lower())
    if not any(name in fields for name in (*CONTENT, *CALLS)):
        raise BadRecordError(
            "a message has no content", f"its fields are {', '.join(map(str, fields))}"
        )
    content, thought = _text_of(column, _first(fields, CONTENT))
    extra = _extra(fields, thought)
    if named == "function_call":
        content, extra = "", extra | {"tool_calls": [_call(_parsed(content))]}
    if role == "system" and not content.strip():
        return None
    return Message(role, content, _learnt(fields), packed(extra))


def packed(extra: Mapping[str, Any]) -> str:
    """Further fields as text, the same for equal ones; empty for none."""
    return json.dumps(extra, ensure_ascii=False, sort_keys=True) if extra else ""


def tools_of(value: Any) -> str:
    """A column of tools as the JSON list that a template is given; empty for none."""
    tools = _parsed(value) if isinstance(value, str) else value
    if not tools:
        return ""
    if not isinstance(tools, list) or not all(
        isinstance(one, Mapping) for one in cast("list[Any]", tools)
    ):
        raise BadRecordError("column 'tools' holds no list of tools", "give a list of objects")
    listed: list[Any] = [_without_nulls(one) for one in cast("list[Any]", tools)]
    listed = [one if "function" in one else {"type": "function", "function": one} for one in listed]
    return json.dumps(listed, ensure_ascii=False)


def tools_in(rows: Sequence[Any]) -> str:
    """The tools that messages offer, as ``tools_of`` gives them. Raises BadRecordError for two."""
    messages = (cast("Mapping[str, Any]", row) for row in rows if isinstance(row, Mapping))
    return one_offer(*(tools_of(_first(row, TOOLS)) for row in messages))


def one_offer(*tools: str) -> str:
    """The one of these lists of tools that there is. Raises BadRecordError where they differ."""
    found = list(dict.fromkeys(filter(None, tools)))
    if len(found) > 1:
        raise BadRecordError(
            "different tools are offered in one conversation", "give one list, in a column 'tools'"
        )
    return found[0] if found else ""


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _text_of(column: str, content: Any) -> tuple[str, str]:
    """(Text, thoughts) of a content, which may be parts ``{"type": "text", "text": …}``."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, Sequence):
        kind = type(content).__name__
        raise BadRecordError(f"a message in {column!r} holds a value of type {kind}, not text")
    texts, thoughts = list[str](), list[str]()
    for part in cast("Sequence[Any]", content):
        if isinstance(part, str):
            texts.append(part)
            continue
        known = isinstance(part, Mapping)
        fields: Mapping[str, Any] = cast("Mapping[str, Any]", part) if known else {}
        kind = str(fields.get("type") or "text")
        text = fields.get("text")
        if kind == "thinking" and isinstance(fields.get("thinking"), str):
            thoughts.append(fields["thinking"])
        elif kind in TEXTS and isinstance(text, str):
            texts.append(text)
        else:
            raise BadRecordError(
                f"a message holds something other than text (a part of type {kind!r})",
                "remove the row",
            )
    return "".join(texts), "".join(thoughts)


def _learnt(fields: Mapping[str, Any]) -> bool:
    """False where the turn says that it is not to be learnt. Raises BadRecordError between both."""
    for name in WEIGHTS:
        value = fields.get(name)
        if value is None:
            continue
        if value not in (0, 1):
            raise BadRecordError(
                f"the {name} of a message is neither 0 nor 1",
                f"{value!r} was given; a turn is learnt or it is not",
            )
        if not value:
            return False
    return True


def _extra(fields: Mapping[str, Any], thought: str) -> dict[str, Any]:
    extra: dict[str, Any] = {name: str(fields[name]) for name in BESIDE if fields.get(name)}
    thought = next((str(fields[name]) for name in REASONING if fields.get(name)), thought)
    if thought:
        extra["reasoning"] = thought
    calls: Any = fields.get("tool_calls") or []
    if isinstance(calls, str):
        calls = _parsed(calls)
    if fields.get("function_call"):
        calls = [*calls, fields["function_call"]]
    if calls:
        extra["tool_calls"] = [_call(one) for one in calls]
    return extra


def _call(given: Any) -> dict[str, Any]:
    """A call in OpenAI's form; its arguments, which that writes as text, as a mapping.

    Templates write arguments as JSON themselves. Nulls, with which tables fill up what other calls
    have, are none.
    """
    if isinstance(given, str):
        given = _parsed(given)
    if not isinstance(given, Mapping):
        raise BadRecordError("a tool call is no object", 'give {"name": …, "arguments": …}')
    call: dict[str, Any] = _without_nulls(given)
    inner: Any = call.get("function")
    function = cast("dict[str, Any]", inner) if isinstance(inner, dict) else call
    if not function.get("name"):
        raise BadRecordError("a tool call names no function", f"{str(call)[:60]!r} was given")
    arguments: Any = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = _parsed(arguments) if arguments.strip() else {}
    function = {"name": function["name"], "arguments": arguments}
    made = {"type": "function", "function": function}
    return made | ({"id": call["id"]} if call.get("id") else {})


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecordError(
            "tools or the arguments of a call are not JSON", f"{text[:40]!r} was given"
        ) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value).items()
        return {str(name): _without_nulls(one) for name, one in fields if one is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(one) for one in cast("Sequence[Any]", value)]
    return value
