"""Items and answers of any kind, read from JSON.

An item and its answers are JSON, in the item's own order. Sides are shuffled for each rater by a
recorded order; ``tasks/display.py`` goes there and back. The names of the models that wrote the
answers never leave this side.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from backflip.errors import UserError
from backflip.feedback.kinds.fields import Payload, Rubric, Strict
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.tasks.settings import plain

Model = TypeVar("Model", bound=Strict)
_ENCODE = json.JSONEncoder().encode


def payload_of(given: Payload | dict[str, Any], kind: str, where: str = "item") -> Payload:
    """One item of a project of ``kind``. Raises UserError that says what is wrong, and where."""
    named = given.get("kind", kind) if isinstance(given, dict) else given.kind
    if named != kind:
        raise UserError(f"{where}: of kind {named!r}, but the project asks for {kind!r}.")
    if not isinstance(given, dict):
        return given
    return _read(kind_of(kind).payload, {**given, "kind": kind}, where)


def value_of(
    given: dict[str, Any], payload: Payload, settings: Rubric, where: str = "answer"
) -> Strict:
    """An answer that fits its item and the project's scales. Raises UserError otherwise."""
    kind = kind_of(payload.kind)
    value = _read(kind.value, given, where)
    fault = kind.fault(value, payload, settings)
    if fault:
        raise UserError(f"{where}: {fault}")
    return value


def _read(model: type[Model], given: dict[str, Any], where: str) -> Model:
    """By way of JSON, whose strict reading takes lists for tuples and nothing else for anything."""
    try:
        return model.model_validate_json(_ENCODE(given))
    except ValidationError as error:
        raise UserError(plain(error, where)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: cannot be written as JSON ({error}).") from None
