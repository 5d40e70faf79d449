"""Adapters of step-labelled rows: solutions of which somebody, or a program, judged each step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from backflip.data.columns import Fields
from backflip.data.conversations import prompt_messages
from backflip.data.records import (
    BAD,
    GOOD,
    NEUTRAL,
    Alternative,
    BadRecordError,
    Solution,
    StepLabel,
)
from backflip.data.rows import Format, Line, asked, dressed, has, has_prompt, number
from backflip.data.thumbs import label as thumb
from backflip.text import counted

STEPS = ("completions", "steps")
"""Names of the column with the steps."""
LABELS = ("step_labels", "labels", "ratings")
"""Names of the column with a label for each step, the most exact first."""
TAG = "ки"
"""Mark behind each step of Math-Shepherd's."""
ZERO_BAD = "0 is read as the label of a bad step, 1 of a good one"
ZERO_NEUTRAL = "0 is read as the label of a neutral step, −1 of a bad one"
WORDS = {"good": GOOD, "neutral": NEUTRAL, "bad": BAD, "+": GOOD, "-": BAD, "−": BAD}
CLASSES: Mapping[float, StepLabel] = {-1: BAD, 0: NEUTRAL, 1: GOOD}


def soft(p: float) -> StepLabel:
    """The label of a step that is good with probability ``p``, and else bad."""
    if not 0 <= p <= 1:
        raise BadRecordError("label of a step out of range", f"{p!r} was given; use 0 to 1")
    return (1 - p, 0.0, p)


def step_labels(name: str, values: Sequence[Any], remarks: list[str]) -> list[StepLabel | None]:
    """Labels of steps in the dialects of datasets; None where there is none.

    true and false; −1, 0, 1 (PRM800K: bad, neutral, good); words; or P(good) as fractions. 0 beside
    nothing but 1 is neutral in a column ``step_labels`` or ``ratings`` and bad in ``labels``, which
    ``remarks`` says.
    """
    given = [value for value in values if value is not None]
    numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    ranked = any(v == -1 for v in numbers) or (name != "labels" and all(_whole(v) for v in numbers))
    if ranked and any(v == 0 for v in numbers) and name == "labels":
        remarks.append(ZERO_NEUTRAL)
    elif not ranked and any(v == 0 and isinstance(v, int) for v in numbers):
        remarks.append(ZERO_BAD)
    return [None if value is None else _label(name, value, ranked=ranked) for value in values]


def _label(name: str, value: Any, *, ranked: bool) -> StepLabel:
    if isinstance(value, str) and value.strip().lower() in WORDS:
        return WORDS[value.strip().lower()]
    if isinstance(value, int | float) and not isinstance(value, bool):
        if ranked and value in CLASSES:
            return CLASSES[value]
        return soft(float(value))
    return GOOD if thumb(name, value) else BAD


def _whole(value: float | int) -> bool:
    return value in CLASSES


def _stepwise(line: Line) -> Solution:
    fields = line.fields
    steps = fields[next(name for name in STEPS if name in fields)]
    name = next(name for name in LABELS if fields.peek(name) is not None)
    labels = cast("Sequence[Any]", fields[name])
    if name == "step_labels":
        fields.get("labels")  # the same labels, less exactly
    if len(steps) != len(labels) or not all(isinstance(step, str) for step in steps):
        raise BadRecordError(
            "steps and labels do not fit",
            f"{counted(len(labels), 'label')} for {counted(len(steps), 'text')}",
        )
    found = step_labels(name, labels, fields.remarks)
    finished = fields.get("finished") is not False
    return replace(_solution(line, steps, found, finished=finished), alternatives=_others(line))


def _others(line: Line) -> tuple[Alternative, ...]:
    """Labelled candidates for a step that were not gone on with."""
    fields = line.fields
    many = fields.inside("alternatives") if fields.peek("alternatives") else []
    return tuple(
        Alternative(one["place"], one["text"], _label("label", one["label"], ranked=True))
        for one in many
    )


def _process_bench(line: Line) -> Solution:
    """The first wrong step is ``label``, −1 where all are right; behind it nobody has looked."""
    fields = line.fields
    steps, first = fields["steps"], fields["label"]
    for known in ("final_answer_correct", "generator", "id"):
        fields.get(known)
    if isinstance(first, bool) or not isinstance(first, int) or not -1 <= first < len(steps):
        raise BadRecordError(
            "column 'label' names no step",
            f"{first!r} was given for {counted(len(steps), 'step')}; −1 says that all are right",
        )
    if first == -1:
        return _solution(line, steps, [GOOD] * len(steps))
    behind: list[StepLabel | None] = [None] * (len(steps) - first - 1)
    return _solution(line, steps, [*[GOOD] * first, BAD, *behind])


def _math_shepherd(line: Line) -> Solution:
    """Question and steps in ``input``, each step with a tag, which is its sign in ``label``."""
    fields = line.fields
    # the reader of a file may have settled that ``input`` is the prompt
    text, labelled = fields["input" if "input" in fields else "prompt"], fields["label"]
    fields.get("task")
    *pieces, rest = text.split(TAG)
    signs, at = list[str](), 0
    for piece in pieces:
        at += len(piece)
        if labelled[at - len(piece) : at] != piece or labelled[at : at + 1] not in ("+", "-"):
            raise BadRecordError(
                "input and label are not the same steps", f"seen at {piece[:40]!r}"
            )
        signs.append(labelled[at])
        at += 1
    if not pieces:
        raise BadRecordError(f"no step ends with {TAG}", "Math-Shepherd marks each step by it")
    question, mark, first = pieces[0].rpartition("Step 1:")
    if not mark:
        raise BadRecordError("no 'Step 1:' in the input", "the question ends before it")
    steps = [f"{mark}{first}", *pieces[1:]]
    prompt = dressed(line, prompt_messages(question.strip(), "input"))
    return Solution(
        prompt,
        tuple(step.strip() for step in steps),
        tuple(WORDS[sign] for sign in signs),
        finished=not rest.strip(),
        where=line.where,
    )


def _prm800k(line: Line) -> Solution:
    """The trajectory that was chosen, and other candidates for its steps as alternatives.

    Where nothing was chosen the solution ends with the first candidate, which was found wrong.
    Steps that somebody wrote by hand are good.
    """
    (question,), (said,) = line.fields.inside("question"), line.fields.inside("label")
    prompt = prompt_messages(question["problem"], "question.problem")
    steps, labels = list[str](), list[StepLabel | None]()
    others = list[Alternative]()
    for place, step in enumerate(said.inside("steps")):
        candidates = step.inside("completions") if step.peek("completions") else []
        chosen, by_hand = step.get("chosen_completion"), step.get("human_completion")
        main = chosen if chosen is not None else None if by_hand else 0
        for number_, one in enumerate(candidates):
            text, rating = one["text"], one["rating"]
            label = None if rating is None else CLASSES.get(rating)
            if number_ == main:
                steps.append(text)
                labels.append(label)
            elif label is not None and text.strip():
                others.append(Alternative(place, text, label))
        if main is None:
            steps.append(by_hand if isinstance(by_hand, str) else by_hand["text"])
            labels.append(GOOD)
        if chosen is None and not by_hand:
            break
    others = [one for one in others if one.place < len(steps)]
    return Solution(
        dressed(line, prompt),
        tuple(steps),
        tuple(labels),
        finished=said.get("finish_reason") == "solution",
        alternatives=tuple(others),
        where=line.where,
    )


def _solution(
    line: Line,
    steps: Sequence[str],
    labels: Sequence[StepLabel | None],
    *,
    finished: bool = True,
) -> Solution:
    weight = number(line.fields, "weight", 1.0)
    prompt = dressed(line, asked(line.fields))
    return Solution(
        prompt, tuple(steps), tuple(labels), finished=finished, weight=weight, where=line.where
    )


def _lists(fields: Fields, *names: str) -> bool:
    values = [fields.peek(name) for name in names]
    return all(isinstance(value, Sequence) and not isinstance(value, str) for value in values)


def _holds_steps(fields: Fields) -> bool:
    steps = next((name for name in STEPS if name in fields), None)
    labels = next((name for name in LABELS if fields.peek(name) is not None), None)
    found = has_prompt(fields) and steps is not None and labels is not None
    if not found or "rank" in fields or not _lists(fields, str(steps), str(labels)):
        return False
    return steps == "steps" or labels != "ratings"


def _holds_trajectory(fields: Fields) -> bool:
    label = fields.peek("label")
    return (
        isinstance(fields.peek("question"), Mapping)
        and isinstance(label, Mapping)
        and ("steps" in label)
    )


def _holds_tags(fields: Fields) -> bool:
    text, labelled = fields.peek("input"), fields.peek("label")
    return (
        isinstance(text, str)
        and isinstance(labelled, str)
        and TAG in text
        and re.search(r"Step \d+:", labelled) is not None
    )


SOLUTIONS = (
    Format(
        "prm800k",
        "question (with problem) and label (with steps, their completions and ratings)",
        fits=_holds_trajectory,
        read=_prm800k,
        kind=Solution,
        choice="the solution is what was chosen at each step; other rated completions of a step "
        "are its alternatives",
    ),
    Format(
        "process_bench",
        "problem, steps and label (the first wrong step from 0, −1 for none)",
        fits=lambda f: has_prompt(f) and has("steps", "label")(f) and _lists(f, "steps"),
        read=_process_bench,
        kind=Solution,
    ),
    Format(
        "math_shepherd",
        f"input (question and steps, each ending with {TAG}) and label (the same with + or -)",
        fits=_holds_tags,
        read=_math_shepherd,
        kind=Solution,
    ),
    Format(
        "stepwise",
        "prompt, completions or steps (texts) and labels or step_labels (true or false, −1, 0 or "
        "1, or P(good), for each)",
        fits=_holds_steps,
        read=_stepwise,
        kind=Solution,
    ),
)
"""Tried before the general forms."""
