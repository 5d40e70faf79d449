"""Two answers to a prompt, on a scale of strengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import LETTERS, Block, Json, Wording
from backflip.feedback.kinds.fields import Answer, Payload, Prompt, Rubric
from backflip.feedback.kinds.pairs import (
    PairKind,
    better,
    change_choice,
    choice_text,
    reason_from_why,
)


class Compare(Payload):
    kind: str = "compare"
    prompt: Prompt
    answers: tuple[Answer, Answer]


class CompareForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = {**form.SIDED, "choice": change_choice}

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        sides = [form.Control(f"answer_{n}", f"Answer {LETTERS[n]}") for n in (0, 1)]
        return [form.PROMPT, *sides, better(settings)]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        return form.prompt_and_answers(payload) | choice_text(value)

    def finish(
        self, touched: set[str], given: form.Texts, payload: form.Data, value: form.Data
    ) -> None:
        reason_from_why(given, value)


class CompareKind(PairKind[Compare]):
    name, place = "compare", 1
    payload = Compare
    form = CompareForm()
    column = sides = "answers"
    fewest = exactly = 2
    wording = Wording(
        title="Compare two answers",
        description="Which is better, and by how much",
        row='{"prompt": "How do I boil an egg?", "answers": [{"text": "…"}, {"text": "…"}]}\n'
        '{"prompt": "How do I boil an egg?", "chosen": "…", "rejected": "…"}',
        subject="on the better answer",
        values=("B", "A", "a tie"),
    )

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("answers", [answer["text"] for answer in payload["answers"]])]

    def from_replies(self, prompt: list[Json], answers: list[Json]) -> Iterable[Json]:
        """Each reply against the next, in a ring where there are more than two."""
        size = len(answers)
        for i in range(size if size > 2 else size // 2):
            yield {"prompt": prompt, "answers": [answers[i], answers[(i + 1) % size]]}


KIND = CompareKind()
