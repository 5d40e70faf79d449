"""Adapters of single datasets whose columns no general form covers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from backflip.data.columns import CONTEXTS, Fields
from backflip.data.conversations import answer_messages, is_conversation, prompt_messages
from backflip.data.records import BadRecordError, Comparison
from backflip.data.rows import (
    Format,
    Line,
    asked,
    asked_or_context,
    dense_ranks,
    has,
    has_prompt,
    number,
    pair,
    ranked,
    together,
)
from backflip.data.turns import tools_of

TWO = (
    ("response_0", "response_1"),
    ("response_1", "response_2"),
    ("response1", "response2"),
    ("response_a", "response_b"),
    ("answer_a", "answer_b"),
)
"""Columns of two answers of which a further column says which is better."""
SIGNED = ("preference_strength", "overall_preference")
"""Below 0 the first answer is better, above 0 the second (HelpSteer2 and 3)."""
CHOICES = ("better_response_id", "preference", "winner", "choice", "preferred")
FIRST, SECOND = {"0", "a", "first", "left", "model_a"}, {"1", "b", "second", "right", "model_b"}
TIES = {"tie", "equal", "both", "same", "tie (bothbad)"}


def _ultrafeedback(line: Line) -> Comparison:
    answers = line.fields.inside("completions")
    values = [answer["response"] for answer in answers]
    scores = [_fine_score(answer) for answer in answers]
    return ranked(line, asked(line.fields), values, dense_ranks([-score for score in scores]))


def _fine_score(answer: Fields) -> float:
    """The mean of the four ratings; ``overall_score`` was found to be wrong in many rows."""
    name = answer.first(("fine_grained_score", "overall_score"))
    return number(answer, name) if name else math.nan


def _nectar(line: Line) -> Comparison:
    answers = line.fields.inside("answers")
    values = [answer["answer"] for answer in answers]
    ranks = dense_ranks([number(answer, "rank", math.nan) for answer in answers])
    return ranked(line, asked(line.fields), values, ranks)


def _openai(line: Line) -> Comparison:
    given = line.fields.inside("input")[0]
    messages = given.get("messages")
    prompt = prompt_messages(messages, "input.messages")
    chosen, rejected = (
        answer_messages(name, line.fields[name])
        for name in ("preferred_output", "non_preferred_output")
    )
    prompt, (chosen, rejected) = together(line, prompt, chosen, rejected)
    tools = tools_of(given.get("tools"))
    prompt = (replace(prompt[0], tools=tools), *prompt[1:])
    return pair(line, prompt, chosen, rejected)


def _summaries(line: Line) -> Comparison:
    """A post or an article, and which of two summaries is better (Stiennon et al., 2020)."""
    info = line.fields.inside("info")[0]
    texts = [one["text"] for one in line.fields.inside("summaries")]
    if len(texts) != 2:
        raise BadRecordError(f"{len(texts)} summaries where 2 are compared")
    best = line.fields["choice"]
    if best not in (0, 1):
        raise BadRecordError("column 'choice' is neither 0 nor 1", f"{best!r} was given")
    chosen, rejected = (answer_messages("summaries", texts[n]) for n in (best, 1 - best))
    return pair(line, prompt_messages(_to_summarise(info), "info"), chosen, rejected)


def _to_summarise(info: Fields) -> str:
    """The query of the paper's models: subreddit, title and post, or the article."""
    if info.peek("post"):
        head = [f"SUBREDDIT: r/{info['subreddit']}"] if info.peek("subreddit") else []
        head += [f"TITLE: {info['title']}"] if info.peek("title") else []
        return "\n\n".join([*head, f"POST: {info['post']}", "TL;DR:"])
    if info.peek("article"):
        return f"Article: {info['article']}\n\nTL;DR:"
    raise BadRecordError("column 'info' holds neither post nor article")


def _two(line: Line) -> Comparison:
    fields = line.fields
    names = _two_answers(fields)
    if names is None:
        raise KeyError(TWO[0][0])
    prompt = asked_or_context(fields)
    if prompt is None:
        raise BadRecordError("no prompt", "the row has none, and others have")
    answers = tuple(answer_messages(name, fields[name]) for name in names)
    prompt, answers = together(line, prompt, *answers)
    better, margin = _verdict(fields, names)
    best, worst = answers if better in (None, 0) else answers[::-1]
    return _decided(pair(line, prompt, best, worst), better, margin)


def _decided(made: Comparison, better: int | None, margin: float) -> Comparison:
    """A tie where neither is better; else with this margin."""
    if better is None:
        return replace(made, rank=(0, 0), soft=0.5)
    return replace(made, margin=margin) if margin else made


def _two_answers(fields: Fields) -> tuple[str, str] | None:
    return next((two for two in TWO if two[0] in fields and two[1] in fields), None)


def _verdict(fields: Fields, names: tuple[str, str]) -> tuple[int | None, float]:
    """(Which answer is better, None for a tie; by how much, in steps of the scale)."""
    name = fields.first((*SIGNED, *CHOICES))
    if name is None:
        raise BadRecordError("no value says which answer is better", "remove the row")
    value = fields[name]
    fields.remarks.append(f"the better answer is that of the column {fields.column(name)}")
    if name in SIGNED:
        strength = number({name: value}, name)
        return (None if strength == 0 else int(strength > 0)), abs(strength)
    said = str(int(value) if isinstance(value, bool | float) and value == int(value) else value)
    said = said.strip().lower()
    for index, words in enumerate((FIRST, SECOND)):
        known = words if names[0] == "response_0" or not said.isdigit() else {str(index + 1)}
        if said in known or said in (names[index], names[index].replace("_", " ")):
            return index, 0.0
    if said in TIES:
        return None, 0.0
    raise BadRecordError(
        f"column {name!r} names neither answer",
        f"{value!r} was given; write the name of the better one's column, or tie",
    )


def _arena(line: Line) -> Comparison:
    """Two conversations with two models, and who won."""
    fields = line.fields
    a, b = (prompt_messages(fields[f"conversation_{n}"], f"conversation_{n}") for n in "ab")
    better, _ = _verdict(fields, ("conversation_a", "conversation_b"))
    prompt, (a, b) = together(line, (), a, b)
    best, worst = (a, b) if better in (None, 0) else (b, a)
    return _decided(pair(line, prompt, best, worst), better, 0.0)


def _listed(value: Any, *keys: str) -> bool:
    """Whether this is a list of objects that have these keys."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return False
    first = cast("Sequence[Any]", value)[0]
    return isinstance(first, Mapping) and all(key in first for key in keys)


def _holds_two(fields: Fields) -> bool:
    asked_for = has_prompt(fields) or any(is_conversation(fields.peek(n)) for n in CONTEXTS)
    says = any(name in fields for name in (*SIGNED, *CHOICES))
    return asked_for and says and _two_answers(fields) is not None


PUBLISHED = (
    Format(
        "ultrafeedback",
        "instruction, completions (each with response and ratings), of openbmb/UltraFeedback",
        fits=lambda f: has_prompt(f) and _listed(f.peek("completions"), "response"),
        read=_ultrafeedback,
        kind=Comparison,
        choice="answers are ranked by fine-grained_score, the mean of four ratings, and by "
        "overall_score where that is missing",
    ),
    Format(
        "nectar",
        "prompt, answers (each with answer and rank), of berkeley-nest/Nectar",
        fits=lambda f: has_prompt(f) and _listed(f.peek("answers"), "answer", "rank"),
        read=_nectar,
        kind=Comparison,
    ),
    Format(
        "openai_preference",
        "input (messages and tools), preferred_output, non_preferred_output",
        fits=lambda f: (
            has("input", "preferred_output", "non_preferred_output")(f)
            and isinstance(f.peek("input"), Mapping)
        ),
        read=_openai,
        kind=Comparison,
    ),
    Format(
        "summaries",
        "info (post or article), summaries (two texts), choice (0 or 1), of TL;DR comparisons",
        fits=has("info", "summaries", "choice"),
        read=_summaries,
        kind=Comparison,
        choice="the prompt is the query of the paper: subreddit, title, post and TL;DR:",
    ),
    Format(
        "two_responses",
        "prompt (or context), response_0 and response_1 (or 1 and 2, a and b), and "
        "better_response_id, preference_strength, overall_preference, preference or winner",
        fits=_holds_two,
        read=_two,
        kind=Comparison,
    ),
    Format(
        "arena",
        "conversation_a, conversation_b, winner",
        fits=has("conversation_a", "conversation_b", "winner"),
        read=_arena,
        kind=Comparison,
    ),
)
"""Tried before the general forms."""
