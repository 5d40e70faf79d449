"""One answer as the values that statistics take: one for most kinds, several for the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from backflip.errors import UserError
from backflip.feedback.kinds.display import first_shown
from backflip.feedback.kinds.scoring import score_of
from backflip.feedback.kinds.settings import SIDED, ProjectSettings

PAIRED = (*SIDED, "principles")
"""Kinds whose value has a sign that says which side is better."""
SCORED = ("compare", "clips", "thumbs", "principles")
"""Kinds whose answer has one score, which is stored beside it."""
UNSURE = math.nan


@dataclass(frozen=True)
class Part:
    """One value of an answer."""

    name: str
    """Which part of the item it is about; empty: the whole."""
    value: float
    """Not a number: looked at, but nothing said."""
    first: float = 0.0
    """1 where the part's first answer was displayed first, −1 where second, 0: no sides."""


def parts_of(
    value: Mapping[str, Any], order: Sequence[int], settings: ProjectSettings, attribute: str = ""
) -> list[Part]:
    """What an answer says.

    Rankings become pairs ("0-2": answer 0 against 2), steps one value each, spans whether a label
    was used at all, talks a verdict per rule. Ratings: ``attribute``, or the first. A written text
    says nothing that could be agreed with.
    """
    found = list[Part]()
    match settings.kind:
        case kind if kind in SCORED:
            score = score_of(settings.kind, value, settings)
            said = UNSURE if score is None else score
            found = [Part("", said, float(first_shown(order)))]
        case "rate":
            found = [Part("", float(value["ratings"].get(attribute, UNSURE)))]
        case "rank":
            found = _pairs(value["ranks"], order)
        case "steps":
            labels = enumerate(value["labels"])
            found = [Part(str(at), float(label)) for at, label in labels if label is not None]
        case "spans":
            used = {span["label"] for span in value["spans"]}
            found = [Part(label, float(label in used)) for label in settings.span_labels]
        case "talk":
            verdicts = value["verdicts"].items()
            found = [Part(rule, _KEPT[verdict]) for rule, verdict in verdicts]
        case _:
            pass
    return found


_KEPT = {"kept": 1.0, "broken": -1.0, "unsure": UNSURE}


def _pairs(ranks: Sequence[int | None], order: Sequence[int]) -> list[Part]:
    """Every two answers; an unranked one is below all ranked ones, and two say nothing."""
    place = {answer: shown for shown, answer in enumerate(order)}
    found = list[Part]()
    for a, b in combinations(range(len(ranks)), 2):
        mine, other = ranks[a], ranks[b]
        first = 1.0 if place.get(a, a) < place.get(b, b) else -1.0
        if mine is None and other is None:
            said = UNSURE
        else:
            low = len(ranks)
            gap = (low if other is None else other) - (low if mine is None else mine)
            said = float((gap > 0) - (gap < 0))
        found.append(Part(f"{a}-{b}", said, first))
    return found


def attribute_of(settings: ProjectSettings, part: str) -> str:
    """The attribute that is asked for, the first one if none is. Raises UserError for others."""
    names = [attribute.name for attribute in settings.attributes]
    if settings.kind != "rate":
        if part:
            raise UserError(f"projects of kind {settings.kind!r} have no attributes to choose.")
        return ""
    if part and part not in names:
        raise UserError(f"there is no attribute {part!r}; this project has {', '.join(names)}.")
    return part or names[0]
