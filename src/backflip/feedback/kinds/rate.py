"""One answer to a prompt, rated on one scale or several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from scipy.special import ndtr

from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import UNSURE, Block, Json, Kind, PartValue, Simulated, Wording
from backflip.feedback.kinds.fields import Answer, Payload, Prompt, Rubric, Strict, Text
from backflip.feedback.kinds.respondent import Respondent

MARK = "mark_"


class Rate(Payload):
    kind: str = "rate"
    prompt: Prompt
    answer: Answer


class Ratings(Strict):
    ratings: dict[str, int]
    reason: Text = ""


class RateForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = form.ANSWERED

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        scales = [
            form.Control(f"{MARK}{a.name}", f"{a.name}, {a.low} to {a.high}", "number")
            for a in settings.attributes
        ]
        return [form.PROMPT, form.ANSWER, *scales]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        marks = form.as_map(value.get("ratings")).items()
        return form.prompt_and_answer(payload) | {
            f"{MARK}{name}": str(mark) for name, mark in marks
        }

    def finish(
        self, touched: set[str], given: form.Texts, payload: form.Data, value: form.Data
    ) -> None:
        """Marks that were touched; those of scales that the form does not show fall away."""
        for field in sorted(touched):
            if field.startswith(MARK):
                name = field.removeprefix(MARK)
                ratings = form.as_map(value.get("ratings"))
                ratings[name] = form.whole(given[field], name)
                value["ratings"] = ratings
        if "ratings" in value:
            marks = value["ratings"].items()
            value["ratings"] = {name: mark for name, mark in marks if f"{MARK}{name}" in given}


class RateKind(Kind[Rate, Ratings]):
    name, place = "rate", 3
    payload, value = Rate, Ratings
    form = RateForm()
    column = "answer"
    attributes = ("helpful", "honest", "harmless")
    settings = ("attributes",)
    simulated = True
    fewest = 1
    wording = Wording(
        title="Rate attributes",
        description="Helpful, honest, or your own scales",
        row='{"prompt": "Name a river.", "answer": {"text": "…"}}',
    )

    def fault(self, value: Ratings, payload: Rate, settings: Rubric) -> str:
        wanted = {attribute.name: attribute for attribute in settings.attributes}
        unknown = sorted(set(value.ratings) - set(wanted))
        if unknown:
            return f"there is no attribute {unknown[0]!r}; this project has {', '.join(wanted)}"
        missing = [name for name in wanted if name not in value.ratings]
        if missing:
            return f"{missing[0]!r} has no rating; rate {', '.join(wanted)}"
        for name, rating in value.ratings.items():
            scale = wanted[name]
            if not scale.low <= rating <= scale.high:
                return f"{name!r} is {rating}; its scale runs from {scale.low} to {scale.high}"
        return ""

    def score(self, value: Mapping[str, Any], settings: Rubric) -> float | None:
        """A rating with a single attribute is that rating, in its own units."""
        ratings = list(value["ratings"].values())
        return float(ratings[0]) if len(ratings) == 1 else None

    def same_as(self, gold: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
        """At most one point off on every scale."""
        given = value["ratings"]
        return all(abs(given.get(n, math.inf) - mark) <= 1 for n, mark in gold["ratings"].items())

    def values(
        self, value: Mapping[str, Any], order: Sequence[int], settings: Rubric, attribute: str = ""
    ) -> list[PartValue]:
        return [PartValue("", float(value["ratings"].get(attribute, UNSURE)))]

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("answers", [payload["answer"]["text"]])]

    def from_replies(self, prompt: list[Json], answers: list[Json]) -> Iterable[Json]:
        return ({"prompt": prompt, "answer": answer} for answer in answers)

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        return ", ".join(f"{name} {mark}" for name, mark in value["ratings"].items())

    def value_in_words(self, value: float, part: str = "") -> str:
        return f"{value:g}"

    def simulate(self, respondent: Respondent, payload: Rate, settings: Rubric) -> Simulated:
        """Points in equal shares."""
        (seen,), seconds = respondent.qualities(payload, [payload.answer.text])
        share = float(ndtr(seen))
        ratings = {
            a.name: min(a.high, a.low + int(share * (a.high - a.low + 1)))
            for a in settings.attributes
        }
        return {"ratings": ratings}, seconds


KIND = RateKind()
