"""The project form: settings ↔ the fields of a page, and the place of a mistake.

Shares stand in the form as percentages, lists as one entry a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from backflip.errors import UserError
from backflip.feedback.kinds.registry import KINDS, known_kind
from backflip.feedback.store.wording import cut, plain_name
from backflip.feedback.tasks.examples import with_examples
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.server.base import example_form

TEXTS = ("kind", "title", "rubric", "content_warning", "order")
NUMBERS = (
    "scale", "raters_per_item", "skips_to_adjudicate", "gold_window", "repeat_gap",
    "lease_seconds", "break_after_minutes",
)  # fmt: skip
SHARES = (
    "adjudicate_below",
    "gold_share",
    "gold_warn",
    "gold_pause",
    "repeat_share",
    "random_share",
)
SWITCHES = ("allow_tie", "allow_both_bad", "stop_at_bad", "calibration")


@dataclass(frozen=True)
class Filled:
    """A form as somebody sent it, and what was wrong with it."""

    values: Mapping[str, Any]
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    """By field; "" for what belongs to none."""
    settings: ProjectSettings | None = None
    """None where there are errors."""


def blank(kind: str = KINDS[0]) -> Filled:
    """The form of a new project, with every default in it."""
    return of(ProjectSettings.model_validate({"kind": kind}))


def of(settings: ProjectSettings) -> Filled:
    """The form of settings that there are."""
    data = settings.model_dump(mode="json")
    values: dict[str, Any] = {name: data[name] for name in (*TEXTS, *NUMBERS, *SWITCHES)}
    values |= {name: f"{100 * data[name]:g}" for name in SHARES}
    values["attributes"] = "\n".join(
        " | ".join([a["name"], str(a["low"]), str(a["high"]), a["question"]]).rstrip(" |")
        for a in data["attributes"]
    )
    values["span_labels"] = "\n".join(data["span_labels"])
    values["groups"] = "\n".join(f"{k}: {', '.join(v)}" for k, v in data["groups"].items())
    values |= {"example_rows": example_form.rows_of(settings), "another": 0}
    values |= {f"{name}_on": data[name] is not None for name in ("screening", "overlap")}
    screening = data["screening"] or {"questions": 10, "pass_mark": 0.8}
    overlap = data["overlap"] or {"threshold": 0.9, "max_raters": 5}
    values |= {
        "screening_questions": screening["questions"],
        "screening_pass": f"{100 * screening['pass_mark']:g}",
        "overlap_threshold": f"{100 * overlap['threshold']:g}",
        "overlap_max": overlap["max_raters"],
    }
    values |= {f"budget_{k}": _short(v) for k, v in data["budget"].items()}
    return Filled(values, settings=settings)


def _short(value: Any) -> str:
    """A number without needless decimals; nothing for none."""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def read(form: Mapping[str, str], base: ProjectSettings | None = None) -> Filled:
    """Settings from a form that was sent; what the form does not show stays as ``base`` has it."""
    values: dict[str, Any] = {**form, **{name: name in form for name in SWITCHES}}
    values |= {f"{name}_on": f"{name}_on" in form for name in ("screening", "overlap")}
    errors: dict[str, str] = {}
    data = base.model_dump(mode="json") if base else {}
    data |= {name: form[name].strip() for name in TEXTS if name in form}
    data |= {name: name in form for name in SWITCHES}
    for name in NUMBERS:
        if name in form:
            data[name] = _number(form[name], name, errors, whole=True)
    for name in SHARES:
        if name in form:
            data[name] = _share(form[name], name, errors)
    kind = known_kind(data.get("kind"))
    if kind is None or not kind.golden:  # a page without its script sends what is not shown
        data.pop("adjudicate_below", None)
    data["screening"] = _screening(form, errors) if values["screening_on"] else None
    data["overlap"] = _overlap(form, errors) if values["overlap_on"] else None
    data["budget"] = _budget(form, errors)
    _lists(form, data, errors)
    if base is not None and example_form.ROWS in form:
        _examples(form, base, data, values, errors)
    if not errors:
        try:
            settings = ProjectSettings.model_validate_json(json.dumps(data))
            return Filled(values, settings=with_examples(settings))
        except ValidationError as error:
            errors = _placed(error)
        except UserError as error:
            errors = {"examples": f"{str(error)[:1].upper()}{str(error)[1:]}"}
    return Filled(values, errors)


def _number(text: str, name: str, errors: dict[str, str], *, whole: bool = False) -> Any:
    try:
        return int(text) if whole else float(text.replace(",", "."))
    except ValueError:
        errors[name] = f"{text[:20]!r} is not a {'whole ' if whole else ''}number."
        return None


def _share(text: str, name: str, errors: dict[str, str]) -> Any:
    number = _number(text.rstrip(" %"), name, errors)
    if number is not None and not 0 <= number <= 100:
        errors[name] = f"{text[:20]} %: give a share from 0 to 100."
    return None if number is None else number / 100


def _screening(form: Mapping[str, str], errors: dict[str, str]) -> dict[str, Any]:
    return {
        "questions": _number(
            form.get("screening_questions", "10"), "screening_questions", errors, whole=True
        ),
        "pass_mark": _share(form.get("screening_pass", "80"), "screening_pass", errors),
    }


def _overlap(form: Mapping[str, str], errors: dict[str, str]) -> dict[str, Any]:
    return {
        "threshold": _share(form.get("overlap_threshold", "90"), "overlap_threshold", errors),
        "max_raters": _number(form.get("overlap_max", "5"), "overlap_max", errors, whole=True),
    }


def _budget(form: Mapping[str, str], errors: dict[str, str]) -> dict[str, Any]:
    budget: dict[str, Any] = {"currency": form.get("budget_currency", "").strip()}
    for name in ("items", "hours", "money", "price_per_answer"):
        text = form.get(f"budget_{name}", "").strip()
        if text:
            budget[name] = _number(text, f"budget_{name}", errors, whole=name == "items")
    return budget


def _lists(form: Mapping[str, str], data: dict[str, Any], errors: dict[str, str]) -> None:
    """Attributes, labels and groups: each from its text."""
    kind = known_kind(data.get("kind"))
    if kind is None or not kind.attributes:
        data["attributes"] = []
    elif "attributes" in form:
        data["attributes"] = [_attribute(line) for line in _lines(form["attributes"])]
    if "span_labels" in form:
        data["span_labels"] = list(_lines(form["span_labels"]))
    if "groups" in form:
        try:
            data["groups"] = dict(_group(line) for line in _lines(form["groups"]))
        except UserError as error:
            errors["groups"] = str(error)


def _examples(
    form: Mapping[str, str],
    base: ProjectSettings,
    data: dict[str, Any],
    values: dict[str, Any],
    errors: dict[str, str],
) -> None:
    """Examples from their rows; the rows come back as they were sent, with one more if asked."""
    shown = example_form.as_sent(base, data.get("attributes", []), data.get("span_labels", []))
    more = int("another" in form)
    values["another"] = more
    values[example_form.ROWS] = example_form.rows_sent(shown, form, more)
    try:
        data["examples"] = [] if more else example_form.examples_sent(shown, form)
    except UserError as error:
        errors["examples"] = f"{str(error)[:1].upper()}{str(error)[1:]}"


def _lines(text: str) -> Iterable[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _attribute(line: str) -> dict[str, Any]:
    """``name``, ``name | 1 | 7`` or ``name | 1 | 7 | What is asked``."""
    name, *rest = [part.strip() for part in line.split("|")]
    made: dict[str, Any] = {"name": name}
    for key, text in zip(("low", "high"), rest[:2], strict=False):
        made[key] = int(text) if re.fullmatch(r"-?\d+", text) else text
    if len(rest) > 2:
        made["question"] = " | ".join(rest[2:])
    return made


def _group(line: str) -> tuple[str, list[str]]:
    name, colon, rest = line.partition(":")
    values = [part.strip() for part in rest.split(",") if part.strip()]
    if not colon or not values:
        raise UserError(f"{line[:40]!r}: write a group as “language: German, English”.")
    return name.strip(), values


PLACES = {
    ("screening", "questions"): "screening_questions",
    ("screening", "pass_mark"): "screening_pass",
    ("overlap", "threshold"): "overlap_threshold",
    ("overlap", "max_raters"): "overlap_max",
}


LABELS = {
    "overlap.max_raters": "“At most raters”",
    "raters_per_item": "“Raters per item”",
    "adjudicate_below": "“Adjudicate below”",
    "gold_warn": "“Warn below”",
    "gold_pause": "“Pause below”",
    "gold_share": "“Gold items”",
    "repeat_share": "“Repeated items”",
    "span_labels": "“Labels”",
}
"""Names on the form of settings that a message may name."""


def as_on_the_form(text: str) -> str:
    """A message with the names that the form has for settings."""
    return re.sub("|".join(map(re.escape, LABELS)), lambda found: LABELS[found[0]], text)


def _placed(error: ValidationError) -> dict[str, str]:
    """Each fault at its field."""
    found: dict[str, str] = {}
    for fault in error.errors():
        loc = fault["loc"]
        name = PLACES.get(loc[:2]) if len(loc) > 1 else None  # pyright: ignore[reportArgumentType]
        if name is None and len(loc) > 1 and loc[0] == "budget":
            name = f"budget_{loc[1]}"
        if name is None:
            name = str(loc[0]) if loc else ""
        text = as_on_the_form(fault["msg"].removeprefix("Value error, "))
        where = f"{loc[1]}: " if len(loc) > 1 and name == loc[0] else ""
        found.setdefault(name, f"{where}{text[:1].upper()}{text[1:]}.")
    return found


def slug(title: str) -> str:
    """A project's name for addresses and commands, from its title."""
    return cut(plain_name(title.lower(), signs="").strip("-"), 60)
