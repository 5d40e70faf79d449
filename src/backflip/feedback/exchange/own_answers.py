"""Our own export ``answers`` on its way back: an answer a row, with its item, person and time.

Values are in the item's own order, beside the order that was displayed; the pseudonym, the stage,
gold answers and repetitions come along. Rows of one item stand one behind the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast, get_args

from backflip.data.records import BadRecordError
from backflip.errors import UserError
from backflip.feedback.exchange.tool_records import Document, Given
from backflip.feedback.store.queues import EVERYBODY, Purpose
from backflip.feedback.tasks.display import in_displayed_order
from backflip.feedback.tasks.settings import ProjectSettings

COLUMNS = {"event", "item", "person", "value", "at", "payload", "kind"}
AS_JSON = ("payload", "value", "order", "gold")
"""Columns that Parquet and tables hold as text."""
COUNTED = ("event", "at", "seconds", "surplus", "repeat_of", "rubric_version")
"""Numbers and truth values, which tables hold as text too."""
NO_GOLD = "an item with a known answer, which this file does not have: it becomes an ordinary one"
STAGES = ("work", "calibration", "adjudicate", "golden")


def is_answer(fields: Mapping[str, Any]) -> bool:
    """Whether a row is one of our export ``answers``."""
    return set(fields) >= COLUMNS


def item_of(fields: Mapping[str, Any]) -> Any:
    """The key that rows of the same item share."""
    return fields.get("project"), fields.get("item")


def read(fields: Mapping[str, Any], settings: ProjectSettings) -> Document:
    """A row as an item with one answer. Raises BadRecordError for what is none of ours."""
    row = {name: _cell(value) if name in AS_JSON else value for name, value in fields.items()}
    row |= {name: _number(row.get(name)) for name in COUNTED}
    kind, payload, value = row["kind"], row["payload"], row["value"]
    if kind != settings.kind:
        raise UserError(
            f"answers of a project of kind {kind!r}, but this project asks for {settings.kind!r}; "
            "make one of their kind."
        )
    if not isinstance(payload, dict) or not isinstance(value, dict):
        raise BadRecordError("payload or value is no object", "take the file as it was exported")
    stage, order = str(row.get("stage") or "work"), _order(row.get("order"))
    if stage not in STAGES:
        raise BadRecordError(f"an answer of the stage {stage!r}, which is not taken over")
    gold, purpose = row.get("gold"), row.get("purpose")
    gold = gold if isinstance(gold, dict) else None
    lost = purpose in EVERYBODY and gold is None
    purpose = purpose if purpose in get_args(Purpose) and not lost else None
    given = Given(
        user=str(row["person"]),
        value=in_displayed_order(kind, value, order) if order else value,
        seconds=row.get("seconds"),
        at=row["at"],
        order=order or None,
        stage=stage,
        repeat=row.get("repeat_of") is not None,
        surplus=bool(row.get("surplus")),
        event=int(row["event"]),
        rubric=int(row.get("rubric_version") or 0),
    )
    return Document(
        payload,
        (given,),
        gold=gold,
        notes=(NO_GOLD,) * lost,
        purpose=cast("Purpose | None", purpose),
        origin=str(row.get("origin") or ""),
        batch=str(row.get("batch") or ""),
    )


def _cell(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise BadRecordError("a cell that is no JSON", str(error)) from error


def parsed(value: Any) -> Any:
    """Text that is JSON as what it says; all else as it is."""
    try:
        return _cell(value)
    except BadRecordError:
        return value


def _number(value: Any) -> Any:
    """A cell of a table as a number or truth value, however its letters are written."""
    return parsed(value.lower()) if isinstance(value, str) else value


def _order(given: Any) -> tuple[int, ...]:
    places = list(given or ())
    if sorted(places) != list(range(len(places))):
        raise BadRecordError("order is no order of the answers", f"seen: {places}")
    return tuple(places)
