"""What a column holds → messages: text, lists of messages in two dialects, HH's transcripts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from backflip.data.records import BadRecordError, Message, Messages

_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
"""Names that other datasets use (ShareGPT, Gemma)."""


def is_transcript(value: Any) -> bool:
    r"""Whether this is text in the form of HH-RLHF: ``\n\nHuman: … \n\nAssistant: …``."""
    return isinstance(value, str) and value.startswith(("\n\nHuman:", "\n\nAssistant:"))


def is_conversation(value: Any) -> bool:
    """Whether this is a list of messages: role and content, or ShareGPT's from and value."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return False
    first = cast("Sequence[Any]", value)[0]
    return isinstance(first, Mapping) and ("role" in first or "from" in first)


def transcript_turns(text: str) -> list[tuple[str, str]]:
    """(role, text) of each turn of an HH transcript; text before the first turn is the system's."""
    start, *rest = _HH_TURN.split(text)
    turns = [("system", start.strip())] if start.strip() else []
    return turns + [
        (_HH_ROLES[who], what.strip()) for who, what in zip(rest[::2], rest[1::2], strict=True)
    ]


def conversation_of(column: str, value: Any) -> Messages:
    """Messages in a list of mappings, or in a transcript. Raises BadRecordError."""
    if is_transcript(value):
        return tuple(Message(role, text) for role, text in transcript_turns(value))
    if not is_conversation(value):
        raise BadRecordError(
            f"column {column!r} holds {_seen(value)} where messages are expected",
            "give a list of {role, content}",
        )
    return tuple(_message(column, row) for row in cast("Sequence[Any]", value))


def prompt_messages(value: Any) -> Messages:
    """A prompt: text (the user's), a transcript (an empty last turn is dropped), or messages."""
    if is_transcript(value):
        turns = transcript_turns(value)
        if turns and turns[-1] == ("assistant", ""):
            turns = turns[:-1]
        return tuple(Message(role, text) for role, text in turns)
    if isinstance(value, str):
        if not value.strip():
            raise BadRecordError("empty prompt", "remove the row, or write the missing text")
        return (Message("user", value),)
    return conversation_of("prompt", value)


def answer_messages(column: str, value: Any, prompt: Messages) -> Messages:
    """An answer to ``prompt``: text, or messages, which may repeat the prompt first.

    One leading space, as datasets for base models write it, is not part of an answer.
    """
    if is_transcript(value) or is_conversation(value):
        turns = conversation_of(column, value)
        return turns[len(prompt) :] if prompt and turns[: len(prompt)] == prompt else turns
    if isinstance(value, str):
        lone_space = value.startswith(" ") and not value.startswith("  ")
        return (Message("assistant", value[1:] if lone_space else value),)
    if value is None or (isinstance(value, Sequence) and not value):
        raise BadRecordError("empty answer", "remove the row, or write the missing text")
    raise BadRecordError(
        f"column {column!r} holds {_seen(value)} where an answer is expected",
        "give text, or a list of {role, content}",
    )


def split_last(turns: Messages) -> tuple[Messages, Messages]:
    """All before the assistant's last words, and those: one message, or several in a row."""
    if turns and turns[-1].role != "assistant":
        raise BadRecordError(
            f"conversation ends with the {turns[-1].role}",
            "the last message must be the assistant's",
        )
    start = len(turns)
    while start > 0 and turns[start - 1].role == "assistant":
        start -= 1
    return turns[:start], turns[start:]


def split_common(a: Messages, b: Messages) -> tuple[Messages, Messages, Messages]:
    """The shared prompt of two conversations and the rest of each.

    The prompt is the longest common start behind which the assistant speaks in both. Where the
    conversations part at a turn of the user, it therefore ends before the assistant's turn.
    """
    shared = 0
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    for cut in range(min(shared, len(a) - 1, len(b) - 1), 0, -1):
        asked = a[cut - 1].role in ("user", "tool")
        if asked and a[cut].role == "assistant" == b[cut].role:
            return a[:cut], a[cut:], b[cut:]
    if a[-1].role != "assistant" or b[-1].role != "assistant":
        raise BadRecordError(
            f"conversation ends with the {(a if a[-1].role != 'assistant' else b)[-1].role}",
            "the last message must be the assistant's",
        )
    raise BadRecordError(
        "answers belong to different prompts", "the conversations share no turn of the user"
    )


def split_text(a: str, b: str) -> tuple[str, str, str]:
    """The shared start of two texts, up to the end of a word, and the rest of each."""
    shared = 0
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    if shared < max(len(a), len(b)):
        while shared > 0 and not a[shared - 1].isspace():
            shared -= 1
    if not a[:shared].strip():
        raise BadRecordError("no prompt, and the texts share no first words", "add a column prompt")
    return a[:shared].rstrip(), a[shared:], b[shared:]


def _message(column: str, row: Any) -> Message:
    if not isinstance(row, Mapping):
        raise BadRecordError(
            f"column {column!r} holds {_seen(row)} among its messages", "give {role, content}"
        )
    fields = cast("Mapping[str, Any]", row)
    role = fields.get("role", fields.get("from"))
    content = fields.get("content", fields.get("value"))
    role = _ROLES.get(str(role).lower(), role)
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = _joined(cast("Sequence[Any]", content))
    if content is None:
        content = ""
    if not isinstance(content, str):
        raise BadRecordError(f"a message in {column!r} holds {_seen(content)} instead of text")
    return Message(str(role), content)


def _joined(blocks: Sequence[Any]) -> str:
    """Text of content given as blocks ``{"type": "text", "text": …}``."""
    texts: list[str] = []
    for block in blocks:
        text: Any = None
        if isinstance(block, Mapping):
            text = cast("Mapping[str, Any]", block).get("text")
        if not isinstance(text, str):
            raise BadRecordError("a message holds something other than text", "remove the row")
        texts.append(text)
    return "".join(texts)


def _seen(value: Any) -> str:
    names: dict[type[object], str] = {
        str: "text",
        list: "a list",
        dict: "a mapping",
        type(None): "nothing",
    }
    kind = cast("type[object]", type(value))
    return names.get(kind, f"a value of type {kind.__name__}")
