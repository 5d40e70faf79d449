"""A reply to write, or a draft to make better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import Block, Json, Kind, Wording
from backflip.feedback.kinds.fields import Answer, Payload, Prompt, Rubric, Strict, Text

LONGEST = 300
"""Characters of a text in one line."""


class Write(Payload):
    kind: str = "write"
    prompt: Prompt
    draft: Answer | None = None


class Written(Strict):
    text: Text
    from_draft: bool = False


def _change_draft(name: str, given: form.Texts, payload: form.Data, value: form.Data) -> None:
    text = given[name]
    payload[name] = {**form.as_map(payload.get(name)), "text": text} if text.strip() else None
    value["from_draft"] = bool(text.strip())


class WriteForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = {
        **form.PROMPTED,
        "draft": _change_draft,
        "text": form.in_value(str),
    }

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        return [
            form.PROMPT,
            form.Control("draft", "Draft", hint="Empty: there is none."),
            form.Control("text", "The reply that you want to see"),
        ]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        return {
            "prompt": form.transcript(payload.get("prompt")),
            "draft": form.text_of(payload.get("draft")),
            "text": str(value.get("text") or ""),
        }


class WriteKind(Kind[Write, Written]):
    name, place = "write", 5
    payload, value = Write, Written
    form = WriteForm()
    column, column_needed = "draft", False
    golden, alike, readable = False, False, False
    fewest = 1
    wording = Wording(
        title="Write or improve",
        description="A demonstration, and a pair from a draft",
        row='{"prompt": "Name a river."}\n{"prompt": "Name a river.", "draft": {"text": "…"}}',
        answers="Texts",
    )

    def fault(self, value: Written, payload: Write, settings: Rubric) -> str:
        if not value.text.strip():
            return "the reply is empty; write it, or skip the item"
        if value.from_draft and payload.draft is None:
            return "from_draft is true, but the item has no draft"
        return ""

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("draft", (payload.get("draft") or {}).get("text"), "draft")]

    def from_replies(self, prompt: list[Json], answers: list[Json]) -> Iterable[Json]:
        """The first reply as the draft."""
        yield {"prompt": prompt, "draft": answers[0]}

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        return str(value["text"])[:LONGEST]


KIND = WriteKind()
