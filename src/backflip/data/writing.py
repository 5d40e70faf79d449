"""Records → rows that ``formats.load`` reads back."""

from __future__ import annotations

import json
from typing import Any

from backflip.data.records import (
    BAD,
    GOOD,
    NEUTRAL,
    Comparison,
    Demonstration,
    Labelled,
    Messages,
    Prompt,
    Record,
    Solution,
    StepLabel,
)

__all__ = ["as_row"]


def as_row(record: Record) -> dict[str, Any]:
    """The record as a row that ``load`` reads back: TRL's conversational columns."""
    if isinstance(record, Prompt):
        row: dict[str, Any] = {"prompt": _dicts(record.messages)} | _tools(record.messages)
        return (
            row | dict(record.info) | ({"reference": record.reference} if record.reference else {})
        )
    if isinstance(record, Demonstration):
        row = {"weight": record.weight}
        if not record.prompt:
            return {"text": record.messages[0].content} | row
        return {"messages": _dicts(record.messages)} | row | _tools(record.messages)
    if isinstance(record, Solution):
        return _solution_row(record) | _tools(record.prompt)
    if isinstance(record, Labelled):
        row = {"prompt": _dicts(record.prompt), "completion": _dicts(record.answer)}
        row |= {"label": record.label, "weight": record.weight}
        return row | _tools(record.prompt)
    return _comparison_row(record) | _tools(record.prompt)


def _comparison_row(record: Comparison) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": _dicts(record.prompt), "weight": record.weight}
    if len(record.answers) > 2:
        answers = [_dicts(answer) for answer in record.answers]
        row |= {"completions": answers, "rank": list(record.rank)}
        return row | ({"win": list(record.win)} if record.win else {})
    best = record.rank.index(0)
    order = (best, 1 - best)
    chosen, rejected = (_dicts(record.answers[number]) for number in order)
    row |= {"chosen": chosen, "rejected": rejected}
    row |= {"margin": record.margin, "p_chosen": record.soft}
    row |= {"win": [record.win[number] for number in order]} if record.win else {}
    return row | ({"tie": True} if record.tied else {})


def _solution_row(record: Solution) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": _dicts(record.prompt), "completions": list(record.steps)}
    row |= {"step_labels": [None if b is None else _number(b) for b in record.labels]}
    row |= {"finished": record.finished, "weight": record.weight}
    others = [
        {"place": one.place, "text": one.text, "label": _number(one.label)}
        for one in record.alternatives
    ]
    return row | ({"alternatives": others} if others else {})


def _number(label: StepLabel) -> float | int:
    """−1, 0 or 1 of one class; P(good) of a label between bad and good."""
    classes = {BAD: -1, NEUTRAL: 0, GOOD: 1}
    if label[1] and label not in classes:
        raise ValueError(f"no number says {label}: a row holds one class, or P(good)")
    return classes.get(label, label[2])


def _dicts(messages: Messages) -> list[dict[str, Any]]:
    return [
        {"role": message.role, "content": message.content}
        | message.fields
        | ({} if message.learnt else {"weight": 0})
        for message in messages
    ]


def _tools(messages: Messages) -> dict[str, Any]:
    return {"tools": json.loads(messages[0].tools)} if messages and messages[0].tools else {}
