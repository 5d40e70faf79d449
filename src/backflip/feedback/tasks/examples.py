"""The worked examples beside a rubric: written as rows are, kept as items and their answers are."""

from __future__ import annotations

from typing import Any

from backflip.feedback.kinds.fields import Example
from backflip.feedback.tasks.items import payload_of, value_of
from backflip.feedback.tasks.settings import ProjectSettings


def spelled_out(payload: dict[str, Any], kind: str) -> dict[str, Any]:
    """Plain strings where the short form was written: prompts, answers, a draft."""
    made = {name: value for name, value in payload.items() if value is not None}
    for name in ("prompt", "opening"):
        if isinstance(made.get(name), str):
            made[name] = [{"role": "user", "content": made[name]}]
    for name in ("answer", "draft"):
        if isinstance(made.get(name), str):
            made[name] = {"text": made[name]}
    if isinstance(made.get("answers"), list):
        made["answers"] = [{"text": a} if isinstance(a, str) else a for a in made["answers"]]
    return made | {"kind": kind}


def example_of(given: Example, settings: ProjectSettings, where: str) -> Example:
    """An example whose answer fits its item. Raises UserError that says what does not."""
    kind = settings.kind
    payload = payload_of(spelled_out(given.payload, kind), kind, f"{where}, payload")
    value = value_of(given.value, payload, settings, f"{where}, value")
    return Example(
        payload=payload.model_dump(mode="json"), value=value.model_dump(mode="json"), why=given.why
    )


def with_examples(settings: ProjectSettings) -> ProjectSettings:
    """Settings as they are stored, every example spelled out. Raises UserError for one that does
    not fit.
    """
    made = [
        example_of(one, settings, f"example {number}")
        for number, one in enumerate(settings.examples, 1)
    ]
    return settings.model_copy(update={"examples": tuple(made)})
