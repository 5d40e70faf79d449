"""One small adapter per form of data: the columns of a row → a record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from backflip.data.columns import CONTEXTS, PROMPTS, Fields
from backflip.data.conversations import (
    answer_messages,
    conversation_of,
    holds_transcript,
    is_conversation,
    is_message,
    is_transcript,
    prompt_messages,
    shared_start,
    split_last,
    split_text,
    transcript_messages,
)
from backflip.data.multiple_choice import MULTIPLE_CHOICE
from backflip.data.programming import PROGRAMMING
from backflip.data.published import PUBLISHED
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Labelled,
    Message,
    Messages,
    Prompt,
)
from backflip.data.rows import (
    SOFT,
    Format,
    Line,
    asked,
    asked_or_context,
    demonstration,
    dense_ranks,
    dressed,
    filled,
    has,
    has_prompt,
    holds_text,
    labelled,
    number,
    numbers,
    pair,
    ranked,
    together,
)
from backflip.data.solutions import SOLUTIONS
from backflip.data.thumbs import is_prose, label, thumb

ANSWERS = ("completions", "responses", "answers")
REPLIES = ("completion", "response", "answer", "reply", "output", "solution")
TALKS = ("messages", "conversations", "conversation")
THUMBS = ("thumb", "feedback", "rating")
SCORES = ("scores", "ratings")
POINTS = ("score", "helpfulness")
PAIRS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("preferred_output", "non_preferred_output"),
    ("response_j", "response_k"),
)
"""Names of the better and the worse of two answers."""


def sides(fields: Fields) -> tuple[str, str] | None:
    """The columns of the better and the worse answer; None where the row has no such two."""
    return next((two for two in PAIRS if two[0] in fields and two[1] in fields), None)


def _both(fields: Fields) -> tuple[str, str]:
    found = sides(fields)
    if found is None:
        missing = "rejected" if "chosen" in fields else "chosen"
        raise KeyError(missing)
    return found


def _talks(fields: Fields) -> bool:
    """Whether the better answer is a whole conversation, its prompt included."""
    two = sides(fields)
    value = fields.peek(two[0]) if two else None
    if is_conversation(value):
        turns = cast("list[Any]", value)
        roles = [turn.get("role", turn.get("from")) for turn in turns if is_message(turn)]
        return bool({"user", "human"} & set(roles))
    return is_transcript(value)


def _hh(line: Line) -> Comparison:
    return pair(line, *_parted(line.fields))


def _parted(fields: Fields) -> tuple[Messages, ...]:
    a, b = (conversation_of(name, fields[name]) for name in _both(fields))
    return shared_start(a, b)


def _preference(line: Line) -> Comparison:
    fields = line.fields
    names = _both(fields)
    if _talks(fields) and (not has_prompt(fields) or fields.first(PROMPTS) is None):
        return _hh(line)
    prompt = asked_or_context(fields)
    if prompt is None:
        raise BadRecordError("no prompt", "the row has none, and others have")
    chosen, rejected = (answer_messages(name, fields[name]) for name in names)
    prompt, (chosen, rejected) = together(line, prompt, chosen, rejected)
    return pair(line, prompt, chosen, rejected)


def _shared_words(line: Line) -> Comparison:
    """A pair of texts that both begin with their prompt; nothing else in the row could be it."""
    fields = line.fields
    names = _both(fields)
    if has_prompt(fields) or _talks(fields):
        return _preference(line)
    others = holds_text(fields, *names, *_SAYS_MORE)
    if others:
        raise BadRecordError(
            f"no prompt, but columns that may be it: {', '.join(others)}",
            f"say which it is: data.columns.prompt={others[0]}",
        )
    a, b = (fields[name] for name in names)
    if is_conversation(a) or is_message(a):
        return _hh(line)
    if not isinstance(a, str) or not isinstance(b, str):
        for name, value in zip(names, (a, b), strict=True):
            answer_messages(name, value)
        raise BadRecordError("no prompt", "add a column prompt")
    if not a.strip() or not b.strip():
        raise BadRecordError("empty answer", "remove the row, or write the missing text")
    if holds_transcript(a) and holds_transcript(b):
        return pair(line, *shared_start(*(transcript_messages(text) for text in (a, b))))
    text, a, b = split_text(a, b)
    chosen, rejected = (answer_messages(n, v) for n, v in zip(names, (a, b), strict=True))
    return pair(line, prompt_messages(text), chosen, rejected)


_SAYS_MORE = ("strength", "win", "margin", "weight", "tie", *SOFT)
"""Columns of a comparison that are no prompt."""


def _ranking(line: Line) -> Comparison:
    fields = line.fields
    prompt = asked(fields)
    values = fields[filled(fields, ANSWERS)]
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise BadRecordError("answers are not a list", "give a list with one entry per answer")
    if fields.get("rank") is not None:
        rank = dense_ranks(numbers("rank", fields["rank"]))
    else:
        name = filled(fields, SCORES)
        rank = dense_ranks([-score for score in numbers(name, fields[name])])
    return ranked(line, prompt, cast("Sequence[Any]", values), rank)


def _labelled(line: Line) -> Labelled:
    return _one_answer(line, label("label", line.fields["label"]))


def _thumbs(line: Line) -> Labelled:
    fields = line.fields
    name = next((name for name in THUMBS if fields.peek(name) is not None), None)
    return _one_answer(line, thumb(name or THUMBS[0], fields[name] if name else None))


def _one_answer(line: Line, good: bool) -> Labelled:
    """A prompt and its answer, or a conversation of which the last answer was judged."""
    fields = line.fields
    if fields.first(PROMPTS) is not None and fields.first(REPLIES) is not None:
        name = filled(fields, REPLIES)
        prompt, (answer,) = together(line, asked(fields), answer_messages(name, fields[name]))
    else:
        name = filled(fields, TALKS)
        prompt, answer = split_last(conversation_of(name, fields[name]))
    return labelled(line, prompt, answer, good)


def _prompt_completion(line: Line) -> Demonstration:
    fields = line.fields
    prompt = asked(fields)
    if fields.get("label") is False:
        raise BadRecordError("answer labelled bad", "only good answers are imitated")
    name = filled(fields, REPLIES)
    prompt, (answer,) = together(line, prompt, answer_messages(name, fields[name]))
    points = fields.first(POINTS)
    score = number(fields, points) if points and _is_number(fields.peek(points)) else None
    return demonstration(line, prompt + answer, score)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scored(fields: Fields) -> bool:
    return _asked_and_answered(fields) and any(_is_number(fields.peek(n)) for n in POINTS)


def _messages(line: Line) -> Demonstration:
    name = filled(line.fields, TALKS)
    return demonstration(line, conversation_of(name, line.fields[name]))


def _text(line: Line) -> Demonstration:
    value = line.fields["text"]
    if not isinstance(value, str):
        raise BadRecordError("column 'text' holds no text", "give a text per row")
    if is_transcript(value):
        return demonstration(line, conversation_of("text", value))
    return demonstration(line, (Message("assistant", value),))


REFERENCES = (
    *("reference", "reference_answer", "ground_truth", "solution", "answer", "target"),
    *("expected_answer", "final_answer"),
)
"""Names of the column with the reference answer to a prompt, the likeliest first."""


def _prompt_only(line: Line) -> Prompt:
    fields = line.fields
    prompt = asked(fields) if has_prompt(fields) else asked_or_context(fields) or ()
    name = fields.first(REFERENCES)
    reference = "" if name is None else str(fields[name])
    return Prompt(dressed(line, prompt), line.where, reference)


def _any(names: Iterable[str], fields: Fields) -> bool:
    return any(name in fields for name in names)


def _asked_and_answered(fields: Fields) -> bool:
    """Whether one column asks and another answers."""
    replies = [n for n in REPLIES if n in fields]
    return has_prompt(fields) and any(
        not isinstance(fields.peek(n), list) or is_conversation(fields.peek(n)) for n in replies
    )


def _holds_thumbs(fields: Fields) -> bool:
    """Beside a conversation a text that is no thumb is a comment, which a log may well have."""
    names = [name for name in THUMBS if name in fields]
    if "prompt" in fields:
        return bool(names) and _any(REPLIES, fields)
    judged = any(not is_prose(fields.peek(name)) for name in names)
    return judged and (_any(TALKS, fields) or _asked_and_answered(fields))


def _holds_label(fields: Fields) -> bool:
    if "label" not in fields:
        return False
    if has("prompt", "completion")(fields):
        return True
    judged = not is_prose(fields.peek("label"))
    return judged and (_any(TALKS, fields) or _asked_and_answered(fields))


GENERAL = (
    Format(
        "hh",
        r"chosen, rejected (transcripts: \n\nHuman: … \n\nAssistant: …)",
        fits=lambda f: (
            f.first(PROMPTS) is None and _talks(f) and is_transcript(f.peek(_both(f)[0]))
        ),
        read=_preference,
        kind=Comparison,
    ),
    Format(
        "preference",
        "chosen, rejected, and prompt unless they are conversations that begin with it",
        fits=lambda f: (
            sides(f) is not None
            and (
                has_prompt(f)
                or _talks(f)
                or any(is_conversation(f.peek(name)) for name in CONTEXTS)
            )
        ),
        read=_preference,
        kind=Comparison,
    ),
    Format(
        "shared_words",
        "chosen, rejected and no other text: their first words, which they share, are the prompt",
        fits=lambda f: sides(f) is not None and (not holds_text(f, *_both(f), *_SAYS_MORE)),
        read=_shared_words,
        kind=Comparison,
        choice="the prompt is the words that both answers begin with",
    ),
    Format(
        "ranking",
        "prompt, completions, and rank (0 is best) or scores",
        fits=lambda f: has_prompt(f) and _any(ANSWERS, f) and _any(("rank", *SCORES), f),
        read=_ranking,
        kind=Comparison,
    ),
    Format(
        "labelled",
        "prompt, completion (or messages) and label (true or false)",
        fits=_holds_label,
        read=_labelled,
        kind=Labelled,
    ),
    Format(
        "thumbs",
        "messages (or prompt and response) and thumb, feedback or rating (up or down, +1 or −1)",
        fits=_holds_thumbs,
        read=_thumbs,
        kind=Labelled,
    ),
    Format(
        "scored",
        "prompt, response and helpfulness or score (HelpSteer2): answers to one prompt compared",
        fits=_scored,
        read=_prompt_completion,
        kind=Demonstration,
        choice="imitated are all answers, whatever their score; compared is by score or "
        "helpfulness alone",
        scored=True,
    ),
    Format(
        "prompt_completion",
        "prompt (question, query, instruction and input) and completion (response, answer, output)",
        fits=_asked_and_answered,
        read=_prompt_completion,
        kind=Demonstration,
    ),
    Format(
        "messages",
        "messages (a list of {role, content}) or conversations (of {from, value})",
        fits=lambda f: _any(TALKS, f),
        read=_messages,
        kind=Demonstration,
    ),
    Format("text", "text", fits=has("text"), read=_text, kind=Demonstration),
    Format(
        "prompt",
        "prompt (question, query, instruction and input)",
        fits=has_prompt,
        read=_prompt_only,
        kind=Prompt,
    ),
)
FORMATS = (*PUBLISHED, *SOLUTIONS, *PROGRAMMING, *MULTIPLE_CHOICE, *GENERAL)
"""In the order in which they are tried: the first whose columns are there is taken."""


def known_formats() -> tuple[str, ...]:
    """Names for ``format=``."""
    return tuple(entry.name for entry in FORMATS)
