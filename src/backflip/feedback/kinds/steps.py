"""Reasoning to label step by step (PRM800K)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from backflip.errors import UserError
from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import Block, Kind, PartValue, Simulated, Wording
from backflip.feedback.kinds.fields import Payload, Prompt, Rubric, Strict, Text, Words
from backflip.feedback.kinds.respondent import Respondent
from backflip.text import counted

SIGNS = {"+": 1, "0": 0, "-": -1, "−": -1, "·": None}
HINT = "One sign a step: + good, 0 neutral, - bad, · not labelled."
POOR, UNGOOD = -1.3, -0.8
"""Standard deviations below which a simulated rater calls a step bad, and neutral."""


class Steps(Payload):
    kind: str = "steps"
    prompt: Prompt
    steps: Annotated[tuple[Words, ...], Field(min_length=1)]
    source: str = ""


class StepLabels(Strict):
    labels: tuple[Literal[1, 0, -1] | None, ...]
    """One for each step: good, neutral, bad, not labelled."""
    reason: Text = ""


def _change_labels(name: str, given: form.Texts, _payload: form.Data, value: form.Data) -> None:
    signs = list(re.sub(r"[\s,]", "", given[name]))
    if strange := [sign for sign in signs if sign not in SIGNS]:
        raise UserError(f"labels: {strange[0]!r} is no sign; use + 0 - ·.")
    value[name] = [SIGNS[sign] for sign in signs]


class StepsForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = {
        **form.PROMPTED,
        "steps": form.in_payload(lambda text: form.between(text, r"\n\s*\n")),
        "labels": _change_labels,
    }

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        return [
            form.PROMPT,
            form.Control("steps", "Steps", hint="An empty line between two steps."),
            form.Control("labels", "Labels", "line", HINT),
        ]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        labels = map(str, form.as_list(value.get("labels")))
        return {
            "prompt": form.transcript(payload.get("prompt")),
            "steps": "\n\n".join(map(str, form.as_list(payload.get("steps")))),
            "labels": " ".join({"1": "+", "0": "0", "-1": "-"}.get(x, "·") for x in labels),
        }


class StepsKind(Kind[Steps, StepLabels]):
    name, place = "steps", 6
    payload, value = Steps, StepLabels
    form = StepsForm()
    column = "steps"
    settings = ("stop_at_bad",)
    simulated = True
    wording = Wording(
        title="Label steps",
        description="Is each step of the reasoning right?",
        row='{"prompt": "What is 12 × 13?", "steps": ["12 × 13 = 12 × 10 + 12 × 3", "…"]}',
        subject="on each step",
        unit=("step", "steps"),
        answers="Judgements",
        values=("bad", "good", "neutral"),
    )

    def fault(self, value: StepLabels, payload: Steps, settings: Rubric) -> str:
        labels, steps = value.labels, len(payload.steps)
        if len(labels) != steps:
            seen = f"{counted(len(labels), 'label')} for {counted(steps, 'step')}"
            return f"{seen}; give one for each, null for none"
        known = [label is not None for label in labels]
        if not known[0]:
            return "the first step has no label; label from the beginning, or skip the item"
        until = known.index(False) if False in known else steps
        if any(known[until:]):
            return f"step {until + 1} has no label but a later one has; only the end may stay open"
        if until < steps and not (settings.stop_at_bad and labels[until - 1] == -1):
            return f"step {until + 1} has no label" + (
                "; labelling may end only at a bad step" if settings.stop_at_bad else ""
            )
        return ""

    def same_as(self, gold: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
        """The same first bad step, or none."""
        return _first_bad(gold["labels"]) == _first_bad(value["labels"])

    def part_names(self, payload: Steps, settings: Rubric) -> list[str]:
        return [str(place) for place in range(len(payload.steps))]

    def values(
        self, value: Mapping[str, Any], order: Sequence[int], settings: Rubric, attribute: str = ""
    ) -> list[PartValue]:
        labels = enumerate(value["labels"])
        return [PartValue(str(at), float(label)) for at, label in labels if label is not None]

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("steps", list(payload["steps"]), numbered=True)]

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        return " ".join({1: "+", 0: "0", -1: "−"}.get(label, "·") for label in value["labels"])

    def part_in_words(self, part: str) -> str:
        return f"step {int(part) + 1}"

    def simulate(self, respondent: Respondent, payload: Steps, settings: Rubric) -> Simulated:
        """Most steps are good."""
        seen, seconds = respondent.qualities(payload, payload.steps)
        labels: list[int | None] = [-1 if x < POOR else 0 if x < UNGOOD else 1 for x in seen]
        if settings.stop_at_bad and -1 in labels:
            bad = labels.index(-1)
            labels[bad + 1 :] = [None] * (len(labels) - bad - 1)
        return {"labels": labels}, seconds


def _first_bad(labels: Sequence[int | None]) -> int | None:
    return next((place for place, label in enumerate(labels) if label == -1), None)


KIND = StepsKind()
