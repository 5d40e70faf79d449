"""A recipe's settings as JSON Schema, by which an editor completes and checks its YAML file.

It says of a value no more than the recipe itself: names, types, limits, defaults, meanings. What
depends on several settings together is checked when the recipe is read.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from backflip.recipes.describe import bounds_in, docstrings, fields_of, groups_in
from backflip.recipes.registry import RECIPES
from backflip.stages.choices import NAMES, TERMS
from backflip.stages.rewards.kinds import TERMS as SOURCES
from backflip.stages.rewards.mix import SeveralRewards
from backflip.stages.settings import ANY_WORD, SHORT_FORMS, Common, Group, OptimizerSettings

DRAFT = "https://json-schema.org/draft/2020-12/schema"
PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    Path: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    type(None): {"type": "null"},
}
POWER = {"type": "string", "pattern": r"^[-+]?[0-9.]+[eE][-+]?[0-9]+$"}
"""A number such as 1e-5, which YAML 1.1 takes for a word."""
LIMITS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
NOTHING = ("none", "None", False)
"""Other words for null, where a group may be left out."""


def schema(stage: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of recipes with this value of ``stage``."""
    kind = RECIPES[stage]
    made = _group(kind)
    made["properties"]["stage"] = {"const": stage, "description": "Which recipe this is."}
    about = (kind.__doc__ or "").strip().splitlines()[0]
    head = {"$schema": DRAFT, "title": f"Backflip recipe: {stage}", "description": about}
    return head | made | {"required": ["stage"]}


def _group(kind: type[Any], *, name: str = "") -> dict[str, Any]:
    """An object with the fields of a model or a dataclass, and no others."""
    meanings = docstrings(kind)
    found: dict[str, Any] = {"name": {"const": name}} if name else {}
    for field, type_, default in fields_of(kind):
        found[field] = _setting(kind, field, type_) | _default(default)
        if meanings.get(field):
            found[field]["description"] = meanings[field]
    for old, schema_ in getattr(kind, "ALIASES", {}).items():
        found[old] = (schema_ if isinstance(schema_, dict) else _group(schema_)) | {
            "deprecated": True
        }
    return {"type": "object", "properties": found, "additionalProperties": False}


def _setting(owner: type[Any], field: str, kind: Any) -> dict[str, Any]:
    """A value of one field, in all the ways in which a recipe may say it."""
    if issubclass(owner, SeveralRewards) and field == "terms":
        return _terms()
    options = _options(kind)
    if field == "lr" and owner is OptimizerSettings:
        options.append({"const": "auto"})
    if field == "trackers" and issubclass(owner, Common):
        options += [{"type": "string"}, {"type": "null"}, {"const": False}]
    groups = groups_in(kind)
    if field in SHORT_FORMS and groups and issubclass(owner, Group):
        names = [NAMES[group] for group in groups if group in NAMES]
        options.append({"enum": names} if names else {"type": "string"})
    if field in ANY_WORD:
        options += [{"type": "string"}, _terms()]
    if {"type": "null"} in options and groups:
        options.append({"enum": list(NOTHING)})
    return options[0] if len(options) == 1 else {"anyOf": options}


def _terms() -> dict[str, Any]:
    """Several rewards, each by its settings or by a word."""
    sources = [_group(source, name=name) for name, source in SOURCES.items()]
    return {"type": "array", "items": {"anyOf": [*sources, {"type": "string"}]}}


def _options(kind: Any) -> list[dict[str, Any]]:
    """The kinds of value that a type allows."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        limits = {LIMITS[key]: value for key, value in bounds_in(inner[1:]).items()}
        return [o if "pattern" in o else o | limits for o in _options(inner[0])]
    if origin in (typing.Union, types.UnionType):
        return [option for part in inner for option in _options(part)]
    return [_array(inner)] if origin is tuple else _plain(kind)


def _plain(kind: Any) -> list[dict[str, Any]]:
    """Types that are not made of others."""
    if typing.get_origin(kind) is typing.Literal:
        return [{"enum": list(typing.get_args(kind))}]
    if kind is float:
        return [{"type": "number"}, POWER]
    if kind in PLAIN:
        return [dict(PLAIN[kind])]
    if groups_in(kind):
        return [_group(kind, name=NAMES.get(kind, ""))]
    return [{"type": "object"}] if typing.get_origin(kind) else [{}]


def _array(inner: tuple[Any, ...]) -> dict[str, Any]:
    if inner[-1] is not Ellipsis:
        items = [_one(part) for part in inner]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if groups_in(inner[0]) or inner[0] not in (*PLAIN, float):
        terms = [_group(term, name=name) for name, term in TERMS.items()]
        if typing.get_origin(inner[0]) is None:
            return {"type": "array", "items": {"anyOf": [*terms, {"enum": list(TERMS)}]}}
    return {"type": "array", "items": _one(inner[0])}


def _one(kind: Any) -> dict[str, Any]:
    options = _options(kind)
    return options[0] if len(options) == 1 else {"anyOf": options}


def _default(value: Any) -> dict[str, Any]:
    """The value of a setting that a recipe does not say."""
    if value is PydanticUndefined or isinstance(value, BaseModel) or type(value) in NAMES:
        return {}
    try:
        return {"default": to_jsonable_python(value)}
    except ValueError:
        return {}
