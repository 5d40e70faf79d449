"""One answer to a prompt, good or bad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from backflip.feedback.kinds.base import Block, Kind, Wording
from backflip.feedback.kinds.fields import Answer, Payload, Prompt, Rubric, Strict, Text
from backflip.feedback.kinds.form import (
    ANSWER,
    ANSWERED,
    PROMPT,
    Change,
    Control,
    Data,
    Form,
    Texts,
    in_value,
    prompt_and_answer,
    select,
)
from backflip.feedback.kinds.respondent import Respondent


class Thumbs(Payload):
    kind: str = "thumbs"
    prompt: Prompt
    answer: Answer


class Thumb(Strict):
    up: bool
    reason: Text = ""


class ThumbsForm(Form):
    changes: ClassVar[Mapping[str, Change]] = {
        **ANSWERED,
        "up": in_value({"yes": True, "no": False}.get),
    }

    def controls(self, settings: Rubric, answers: int) -> list[Control]:
        return [PROMPT, ANSWER, select("up", "Good or bad", (("yes", "good"), ("no", "bad")))]

    def texts(self, payload: Data, value: Data) -> Texts:
        said = {"up": "yes" if value["up"] else "no"} if "up" in value else {}
        return prompt_and_answer(payload) | said


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

    def from_replies(
        self, prompt: list[dict[str, Any]], answers: list[dict[str, Any]]
    ) -> Iterable[dict[str, Any]]:
        return ({"prompt": prompt, "answer": answer} for answer in answers)

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        return "good" if value["up"] else "bad"

    def simulate(
        self, respondent: Respondent, payload: Thumbs, settings: Rubric
    ) -> tuple[dict[str, Any], float]:
        (seen,), seconds = respondent.qualities(payload, [payload.answer.text])
        return {"up": seen > 0}, seconds


KIND = ThumbsKind()
