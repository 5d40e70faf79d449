"""Whether questions that a model is measured on are among those that its run learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backflip.data.records import Record
from backflip.data.splits import opening_key, split_by_prompt
from backflip.errors import UserError
from backflip.recipes.load import parse
from backflip.recipes.names import read_yaml
from backflip.stages.sources import load

__all__ = ["learnt_from"]


def learnt_from(model: str, records: Sequence[Any]) -> list[str]:
    """A sentence on those of the records whose question the run of ``model`` was trained on.

    By what the rows say and not by the file's name. None where ``model`` is not of a run, or
    streamed its data.
    """
    folder = Path(model).parent
    path = folder / "recipe.yaml"
    if not records or not path.is_file():
        return []
    raw = read_yaml(path)
    recipe: Any = parse({**raw, "run": str(folder)}, str(raw.pop("stage", "")), str(path))
    if (data := getattr(recipe, "data", None)) is None or data.streaming:
        return []
    try:
        learnt = _trained_on(recipe, type(records[0]))
    except (UserError, OSError):
        return [
            f"whether these questions were trained on cannot be told: {data.source}, which "
            f"{folder} learnt from, cannot be read"
        ]
    keys = set(map(opening_key, learnt))
    asked = {opening_key(record) for record in records}
    if not (shared := len(asked & keys)):
        return []
    return [
        f"{shared:,} of these {len(asked):,} questions were trained on: on them the model looks "
        "better than it is"
    ]


def _trained_on(recipe: Any, kind: type[Any]) -> Sequence[Record]:
    """The rows that a run learnt from, those that it held out left out."""
    data = recipe.data
    columns = data.columns.given
    found = load(data.source, kind, format=data.format, limit=data.limit, columns=columns).records
    if data.validation is not None:
        return found
    return split_by_prompt(found, held_out=data.held_out, seed=recipe.seed)[0]
