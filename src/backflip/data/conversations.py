"""Content of a column → messages: text, lists of messages in two dialects, HH's transcripts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from backflip.data.records import BadRecordError, Message, Messages
from backflip.data.turns import message_of, tools_in

_START = re.compile(r"\s*(?:Human|Assistant):")
_BETWEEN = (
    re.compile(r"\n[ \t]*\n[ \t]*(Human|Assistant):"),
    re.compile(r"\n[ \t]*(Human|Assistant):"),
)
"""How turns are told apart: by blank lines, as HH-RLHF writes them, or else by line ends."""
_BEGUN = re.compile(r"\n[ \t]*\n[ \t]*Human:.*\n[ \t]*\n[ \t]*Assistant:", re.DOTALL)
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(value: Any) -> bool:
    r"""Whether this is text in the form of HH-RLHF: ``\n\nHuman: … \n\nAssistant: …``.

    Without the blank lines in front, there must be a second turn: a text may begin with "Human:".
    """
    if not isinstance(value, str) or not _START.match(value):
        return False
    text = _unix(value)
    return text.startswith(("\n\nHuman:", "\n\nAssistant:")) or _between(text) is not None


def holds_transcript(text: str) -> bool:
    """Whether a transcript begins somewhere in this text, behind words for the system."""
    return _BEGUN.search(_unix(text)) is not None


def is_conversation(value: Any) -> bool:
    """Whether this is a list of messages: role and content, or ShareGPT's from and value."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return False
    return is_message(cast("Sequence[Any]", value)[0])


def is_message(value: Any) -> bool:
    """Whether this is one message in either dialect."""
    return isinstance(value, Mapping) and ("role" in value or "from" in value)


def transcript_turns(text: str) -> list[tuple[str, str]]:
    """(role, text) of each turn of an HH transcript; text before the first turn is the system's.

    Line ends may be those of Windows or of old Macs; blank lines in front may be missing.
    """
    text = _unix(text)
    if _START.match(text):
        text = "\n\n" + text.lstrip()
    between = _between(text.lstrip()) or _BETWEEN[0]
    start, *rest = between.split(text)
    turns = [("system", start.strip())] if start.strip() else []
    return turns + [
        (_HH_ROLES[who], what.strip()) for who, what in zip(rest[::2], rest[1::2], strict=True)
    ]


def transcript_messages(text: str) -> Messages:
    """The turns of an HH transcript as messages."""
    return tuple(Message(role, words) for role, words in transcript_turns(text))


def _between(text: str) -> re.Pattern[str] | None:
    """Pattern of the marks between turns, of a text that begins with one; else None."""
    return next((pattern for pattern in _BETWEEN if pattern.search(text.lstrip())), None)


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def conversation_of(column: str, value: Any) -> Messages:
    """Messages in a list of mappings, in one mapping, or in a transcript. Raises BadRecordError.

    A system message that says nothing is none. Tools that stand in a message are on the first.
    """
    if is_transcript(value):
        return transcript_messages(value)
    if is_message(value):
        value = [value]
    if not is_conversation(value):
        raise BadRecordError(
            f"column {column!r} holds {seen(value)} where messages are expected",
            "give a list of {role, content}",
        )
    rows = cast("Sequence[Any]", value)
    made = [message for row in rows if (message := message_of(column, row)) is not None]
    tools = tools_in(rows)
    return (replace(made[0], tools=tools), *made[1:]) if tools and made else tuple(made)


def prompt_messages(value: Any, column: str = "prompt") -> Messages:
    """A prompt: text (the user's), a transcript (an empty last turn is dropped), or messages."""
    if is_transcript(value):
        turns = transcript_turns(value)
        if turns and turns[-1] == ("assistant", ""):
            turns = turns[:-1]
        return tuple(Message(role, text) for role, text in turns)
    if isinstance(value, list | tuple) and not value:
        raise BadRecordError(f"empty prompt: column {column!r}", "remove the row, or fill it")
    if value is None:
        raise BadRecordError(f"no prompt: column {column!r} is null", "remove the row, or fill it")
    if isinstance(value, str):
        if not value.strip():
            raise BadRecordError("empty prompt", "remove the row, or write the missing text")
        return (Message("user", value),)
    return conversation_of(column, value)


def answer_messages(column: str, value: Any) -> Messages:
    """An answer: text, or messages, which may repeat their prompt first; see ``after``.

    One leading space, as datasets for base models write it, is not part of an answer.
    """
    if is_transcript(value) or is_conversation(value) or is_message(value):
        return conversation_of(column, value)
    if isinstance(value, str):
        lone_space = value.startswith(" ") and not value.startswith("  ")
        return (Message("assistant", value[1:] if lone_space else value),)
    if value is None or (isinstance(value, Sequence) and not value):
        raise BadRecordError("empty answer", "remove the row, or write the missing text")
    raise BadRecordError(
        f"column {column!r} holds {seen(value)} where an answer is expected",
        "give text, or a list of {role, content}",
    )


def after(prompt: Messages, *answers: Messages) -> tuple[Messages, tuple[Messages, ...], bool]:
    """(prompt, answers, whether the two agree) where answers may repeat the prompt, or some of it.

    An answer that begins before the assistant speaks is a whole conversation, and is believed
    where it says something else than the prompt.
    """
    size = len(prompt)
    whole = [answer for answer in answers if answer and answer[0].role != "assistant"]
    if not whole:
        return prompt, answers, True
    repeat = [answer[:size] == prompt for answer in whole]
    if len(whole) < len(answers):
        if not all(repeat):
            raise BadRecordError(
                "one answer repeats its prompt and another does not", "write the prompt once"
            )
        rests = (answer[size:] if answer in whole else answer for answer in answers)
        return prompt, tuple(rests), True
    shared, *rest = shared_start(*whole)
    if all(repeat):
        cut = max(size, len(shared))
        return whole[0][:cut], tuple(answer[cut:] for answer in whole), True
    repeated = next((n for n in range(size, 0, -1) if prompt[-n:] == shared[:n]), 0)
    if repeated:
        return prompt[:-repeated] + shared, tuple(rest), True
    return shared, tuple(rest), _plain(prompt) in (_plain(shared), _plain(shared[-1:]))


def _plain(messages: Messages) -> str:
    return " ".join(word for m in messages for word in m.content.split()).casefold()


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


def split_at_first_answer(messages: Sequence[Message]) -> tuple[Messages, Messages]:
    """Messages before the assistant's first one, and the rest."""
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        raise BadRecordError("conversation ends with the user", "add the assistant's reply")
    first = roles.index("assistant")
    return tuple(messages[:first]), tuple(messages[first:])


def split_at_last_answer(messages: Sequence[Message]) -> tuple[Messages, Messages]:
    """All that came before the assistant's last message, and that message."""
    return tuple(messages[:-1]), tuple(messages[-1:])


def shared_start(*many: Messages) -> tuple[Messages, ...]:
    """The shared prompt of conversations, and the rest of each.

    The prompt is the longest common start behind which the assistant speaks in all. Where the
    conversations part at a turn of the user, it therefore ends before the assistant's turn.
    """
    if len(many) == 1:
        roles = [message.role for message in many[0]]
        cut = roles.index("assistant") if "assistant" in roles[1:] else 0
        if cut:
            return many[0][:cut], many[0][cut:]
    first, shared = many[0], 0
    shortest = min(map(len, many))
    while shared < shortest and all(other[shared] == first[shared] for other in many):
        shared += 1
    for cut in range(min(shared, shortest - 1), 0, -1):
        asked = first[cut - 1].role in ("user", "tool")
        if asked and all(one[cut].role == "assistant" for one in many):
            return (first[:cut], *(one[cut:] for one in many))
    for one in many:
        if not one or one[-1].role != "assistant":
            raise BadRecordError(
                f"conversation ends with the {one[-1].role if one else 'prompt'}",
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


def seen(value: Any) -> str:
    """A value's type, in words."""
    names: dict[type[object], str] = {
        str: "text",
        list: "a list",
        dict: "a mapping",
        type(None): "nothing",
    }
    kind = cast("type[object]", type(value))
    return names.get(kind, f"a value of type {kind.__name__}")
