"""One answer to a prompt, good or bad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import Block, Json, Kind, Simulated, Wording
from backflip.feedback.kinds.fields import Answer, Payload, Prompt, Rubric, Strict, Text
from backflip.feedback.kinds.respondent import Respondent


class Thumbs(Payload):
    kind: str = "thumbs"
    prompt: Prompt
    answer: Answer


class Thumb(Strict):
    up: bool
    reason: Text = ""


class ThumbsForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = {
        **form.ANSWERED,
        "up": form.in_value({"yes": True, "no": False}.get),
    }

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        return [
            form.PROMPT,
            form.ANSWER,
            form.select("up", "Good or bad", (("yes", "good"), ("no", "bad"))),
        ]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        said = {"up": "yes" if value["up"] else "no"} if "up" in value else {}
        return form.prompt_and_answer(payload) | said


class ThumbsKind(Kind[Thumbs, Thumb]):
    name, place = "thumbs", 4
    payload, value = Thumbs, Thumb
    form = ThumbsForm()
    column = "answer"
    one_word, simulated = True, True
    fewest = 1
    wording = Wording(
        title="Thumb up or down",
        description="One answer, one bit",
        row='{"prompt": "Name a river.", "answer": {"text": "…"}}',
        subject="on good or bad",
        values=("bad", "good", "neither"),
    )

    def word(self, value: Mapping[str, Any]) -> str | None:
        return "up" if value["up"] else "down"

    def words(self, settings: Rubric) -> tuple[str, ...]:
        return ("up", "down")

    def score(self, value: Mapping[str, Any], settings: Rubric) -> float | None:
        return 1.0 if value["up"] else -1.0

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("answers", [payload["answer"]["text"]])]

    def from_replies(self, prompt: list[Json], answers: list[Json]) -> Iterable[Json]:
        return ({"prompt": prompt, "answer": answer} for answer in answers)

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        return "good" if value["up"] else "bad"

    def simulate(self, respondent: Respondent, payload: Thumbs, settings: Rubric) -> Simulated:
        (seen,), seconds = respondent.qualities(payload, [payload.answer.text])
        return {"up": seen > 0}, seconds


KIND = ThumbsKind()
