"""Annotations of AlpacaEval's kind: who was preferred on which instruction, and both lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backflip.data.records import Tally
from backflip.errors import UserError
from backflip.functional import length_control
from backflip.functional.length_control import Coefficients

__all__ = ["Annotated", "annotated", "read_annotations", "read_coefficients"]

COLUMNS = ("instruction", "baseline_chars", "model_chars", "preference")
SCALE = (1.0, 2.0)
"""Preferences in files: 1 the baseline, 2 the model; 1.5, and 0, a draw."""


@dataclass(frozen=True)
class Annotated:
    """M models on I instructions."""

    models: list[str]
    instructions: list[str]
    preference: NDArray[np.float64]
    """[M, I] 0 to 1, 1 for the model; NaN where there is none."""
    feature: NDArray[np.float64]
    """[M, I] tanh of the standardised difference of lengths; 0 where there is none."""
    baseline: NDArray[np.float64]
    """[I] Characters of the baseline's answer, NaN where nobody says."""

    def without(self, model: str) -> Annotated:
        """The other models."""
        rows = [row for row, name in enumerate(self.models) if name != model]
        return self.only(rows)

    def only(self, rows: Sequence[int]) -> Annotated:
        """Some of the models."""
        names = [self.models[row] for row in rows]
        index = list(rows)
        return Annotated(
            names, self.instructions, self.preference[index], self.feature[index], self.baseline
        )


def read_annotations(
    data: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """(A row for each annotation: id, group, model, instruction, both lengths, preference 0 to 1;
    sentences on what was left out).

    Either a line a model, with ``rows`` of [instruction, baseline_chars, model_chars, preference];
    or a line an annotation as alpaca_eval writes them, with output_1, output_2 and preference.
    """
    left, found = Tally(), list[dict[str, Any]]()
    seen: dict[str, int] = {}
    for number, line in enumerate(data):
        if isinstance(line.get("rows"), Sequence):
            names = cast("Sequence[str]", line.get("columns") or COLUMNS)
            model = str(line.get("model", number))
            rows = [dict(zip(names, row, strict=False)) for row in cast("Any", line["rows"])]
        else:
            model = str(line.get("generator_2") or line.get("model") or "the model")
            place = seen[model] = seen.get(model, -1) + 1
            rows = [_annotation(line, place)]
        for row in rows:
            where = f"{model}, instruction {row.get('instruction')}"
            preference = _preference(row.get("preference"))
            if any(row.get(name) is None for name in COLUMNS[:3]):
                left.add("no instruction, or no length", where)
            elif preference is None:
                left.add("no preference between 1 and 2, nor 0", where)
            else:
                key = str(row["instruction"])
                found.append({
                    "id": f"{model}/{key}", "group": key, "model": model, "instruction": key,
                    "baseline_chars": float(row["baseline_chars"]),
                    "model_chars": float(row["model_chars"]), "preference": preference,
                })  # fmt: skip
    return found, [f"left out: {line}" for line in left.lines()]


def annotated(rows: Sequence[Mapping[str, Any]]) -> Annotated:
    """Rows of ``read_annotations`` as tables.

    Raises UserError where a model is annotated twice on one instruction.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    instructions = list(dict.fromkeys(row["instruction"] for row in rows))
    model_of, place_of = ({n: i for i, n in enumerate(names)} for names in (models, instructions))
    said = np.full((len(models), len(instructions)), math.nan)
    lengths = np.full((2, *said.shape), math.nan)
    for row in rows:
        at = model_of[row["model"]], place_of[row["instruction"]]
        if math.isfinite(said[at]):
            raise UserError(
                f"{row['model']} is annotated twice on instruction {row['instruction']}: keep one, "
                "or give repeated annotations as their mean."
            )
        said[at] = row["preference"]
        lengths[0][at], lengths[1][at] = row["baseline_chars"], row["model_chars"]
    feature = np.zeros_like(said)
    for place in range(len(models)):
        known = np.isfinite(said[place])
        feature[place, known] = length_control.length_feature(
            lengths[0, place, known], lengths[1, place, known]
        )
    first = np.isfinite(lengths[0]).argmax(0)
    return Annotated(
        models, instructions, said, feature, lengths[0][first, range(len(instructions))]
    )


def read_coefficients(
    data: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[Coefficients, float | None]]:
    """Coefficients by model, with the published length-controlled win rate in percent, if there.

    Columns model, theta, phi, psi and lc.
    """
    found: dict[str, tuple[Coefficients, float | None]] = {}
    for number, row in enumerate(data):
        try:
            fit = Coefficients(*(float(row[name]) for name in ("theta", "phi", "psi")))
            rate = row.get("lc")
            found[str(row["model"])] = (fit, None if rate is None else float(rate))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"coefficients, row {number + 1}: it must have model, theta, phi, psi as numbers, "
                f"and lc where it is known; {error} is wrong."
            ) from error
    return found


def _annotation(line: Mapping[str, Any], place: int) -> dict[str, Any]:
    lengths = [line.get("baseline_chars"), line.get("model_chars")]
    for side in (0, 1):
        if lengths[side] is None and isinstance(line.get(f"output_{side + 1}"), str):
            lengths[side] = len(line[f"output_{side + 1}"])
    number = line.get("index")
    values = (place if number is None else number, *lengths, line.get("preference"))
    return dict(zip(COLUMNS, values, strict=True))


def _preference(value: Any) -> float | None:
    """A preference of a file, 1 to 2, as 0 to 1; 0 is an old word for a draw."""
    try:
        said = float(value)
    except (TypeError, ValueError):
        return None
    if said == 0:
        return 0.5
    return said - 1 if SCALE[0] <= said <= SCALE[1] else None
