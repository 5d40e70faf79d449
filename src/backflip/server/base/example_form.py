"""Worked examples on the settings page: a row of fields for each, and an empty one for another."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from backflip.errors import UserError
from backflip.feedback.kinds.form import Data, Texts
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.tasks.settings import ProjectSettings

ROWS = "example_rows"
"""The field that says how many rows a form had."""
MOST = 40


def rows_of(settings: ProjectSettings) -> list[dict[str, Any]]:
    """The examples that there are, and an empty row."""
    found = [one.model_dump(mode="json") for one in settings.examples]
    return [_row(settings, n, one, None) for n, one in enumerate([*found, None])]


def rows_sent(
    settings: ProjectSettings, form: Mapping[str, str], more: int = 0
) -> list[dict[str, Any]]:
    """The rows of a form as they were sent, whatever is in them, and ``more`` empty ones."""
    sent = _sent(form)
    rows = [_row(settings, n, _kept(form, n), given) for n, given in enumerate(sent)]
    return rows + [_row(settings, len(rows) + n, None, None) for n in range(more)]


def _row(
    settings: ProjectSettings, number: int, kept: Data | None, given: Mapping[str, str] | None
) -> dict[str, Any]:
    texts: Mapping[str, str] = given if given is not None else {}
    if given is None and kept:
        shown = texts_of(settings.kind, kept)
        texts = {**shown, "why": kept.get("why", "")}
    answers = sum(bool(re.fullmatch(r"answer_\d+", name)) for name in texts)
    return {
        "number": number,
        "kept": json.dumps(kept, ensure_ascii=False) if kept else "",
        "new": kept is None,
        "remove": texts.get("remove") == "yes",
        "why": texts.get("why", ""),
        "fields": [
            {
                "id": f"example-{number}-{one.name}",
                "control": one,
                "value": texts.get(one.name, ""),
            }
            for one in kind_of(settings.kind).form.controls(settings, answers)
        ],
    }


def texts_of(kind: str, example: Mapping[str, Any]) -> Texts:
    """Texts that the fields show of an example, with line ends as a browser sends them."""
    texts = kind_of(kind).form.texts(example["payload"], example["value"])
    return {name: text.replace("\r\n", "\n") for name, text in texts.items()}


def example_from(settings: ProjectSettings, given: Texts, kept: Data | None) -> Data:
    """An example as it is stored. Raises UserError for a field that cannot be read."""
    form, before = kind_of(settings.kind).form, texts_of(settings.kind, kept) if kept else {}
    old = kept or {"payload": {}, "value": {}}
    # A browser drops a line end with which a text begins.
    touched = {n for n, text in given.items() if _begun(text) != _begun(before.get(n, ""))}
    payload, value = dict(old["payload"]), dict(old["value"])
    for name in sorted(touched):
        change = form.changes.get(name) or form.changes.get(re.sub(r"_\d+$", "", name))
        if change is not None:
            change(name, given, payload, value)
    form.finish(touched, given, payload, value)
    return {"payload": payload, "value": value, "why": given.get("why", "")}


def _begun(text: str) -> str:
    return text.removeprefix("\n")


def examples_sent(settings: ProjectSettings, form: Mapping[str, str]) -> list[Data]:
    """The examples of a form; removed and empty rows are none.

    Raises UserError that names the example and the field.
    """
    found = list[Data]()
    for number, given in enumerate(_sent(form)):
        texts = {name: text for name, text in given.items() if name != "remove"}
        if given.get("remove") == "yes" or not any(text.strip() for text in texts.values()):
            continue
        try:
            found.append(example_from(settings, texts, _kept(form, number)))
        except UserError as error:
            raise UserError(f"example {number + 1}, {error}") from None
    return found


def _sent(form: Mapping[str, str]) -> list[dict[str, str]]:
    """Of each row the texts by the names of their fields, with line ends as texts have them."""
    text = form.get(ROWS, "")
    count = min(int(text), MOST) if re.fullmatch(r"[0-9]{1,4}", text) else 0
    found: list[dict[str, str]] = [{} for _ in range(count)]
    for name, value in form.items():
        match = re.fullmatch(r"example-([0-9]{1,4})-(.+)", name)
        if match and match[2] != "kept" and int(match[1]) < count:
            found[int(match[1])][match[2]] = value.replace("\r\n", "\n")
    return found


def _kept(form: Mapping[str, str], number: int) -> Data | None:
    """The example that a row was drawn from; none for a new one, or where that is not readable."""
    try:
        kept = json.loads(form.get(f"example-{number}-kept") or "null")
    except ValueError:
        return None
    fits = isinstance(kept, dict) and all(
        isinstance(kept.get(n), dict) for n in ("payload", "value")
    )
    return kept if fits else None


def as_sent(
    settings: ProjectSettings, attributes: list[Data], labels: list[str]
) -> ProjectSettings:
    """Settings whose attributes and labels are those of the form, where these can be read."""
    changed: Data = {"attributes": attributes} if attributes else {}
    changed |= {"span_labels": labels} if labels else {}
    kept = settings.model_dump(mode="json", exclude={"examples"})
    try:
        return ProjectSettings.model_validate_json(json.dumps(kept | changed))
    except ValueError:
        return settings
