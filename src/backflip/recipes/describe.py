"""Every setting of a recipe by its dotted name: type, default and what it means."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from backflip.recipes.registry import RECIPES
from backflip.stages.choices import NAMES

NEEDED = "needed"
LONG = 100
"""Letters of a value, such as a chat template, beyond which only its start is shown."""
PLAIN = {type(None): "null", str: "text", int: "whole number", float: "number", bool: "yes/no"}
PLAIN[Path] = "path"
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


@dataclass(frozen=True)
class Setting:
    """One line of a recipe."""

    path: str
    """Dotted name: what stands before ``=`` on the command line."""
    kind: str
    """Its type, in words."""
    default: str
    """As a recipe would say it, or ``needed``."""
    meaning: str
    """Its meaning, with its unit."""
    choice: str = ""
    """The algorithm that has it, where only one of several does."""


@cache
def settings(recipe: str) -> tuple[Setting, ...]:
    """All settings of a recipe, by its name, in the order in which they are declared."""
    return tuple(_walk(RECIPES[recipe], "", ""))


def paths(recipe: str) -> set[str]:
    """The dotted names of all settings and groups."""
    names = {setting.path for setting in settings(recipe)}
    groups = {name.rpartition(".")[0] for name in names}
    while any("." in group for group in groups - names):
        names |= groups
        groups = {name.rpartition(".")[0] for name in groups}
    return {name for name in names | groups if name}


def _walk(group: type[Any], prefix: str, choice: str) -> Iterator[Setting]:
    meanings = docstrings(group)
    for name, kind, default in fields_of(group):
        path = f"{prefix}{name}"
        options = groups_in(kind)
        if len(options) != 1 or default is None:
            yield Setting(path, words(kind), said(default), meanings.get(name, ""), choice)
        for option in options:
            of = NAMES.get(option, "") if len(options) > 1 else choice
            yield from _walk(option, f"{path}.", of)


def fields_of(group: type[Any]) -> Iterator[tuple[str, Any, Any]]:
    if issubclass(group, BaseModel):
        for name, field in group.model_fields.items():
            kind: Any = field.annotation
            if field.metadata:
                kind = typing.Annotated[kind, *field.metadata]
            default = field.get_default(call_default_factory=False)
            yield name, kind, default
        return
    hints = typing.get_type_hints(group)
    for field in dataclasses.fields(group):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        missing = default is dataclasses.MISSING
        yield field.name, hints[field.name], PydanticUndefined if missing else default


def groups_in(kind: Any) -> list[type[Any]]:
    """The groups that a setting may be: models and dataclasses among its types."""
    if isinstance(kind, type) and not typing.get_origin(kind):
        is_group = issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)
        return [kind] if is_group else []
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return groups_in(inner[0])
    if origin in (typing.Union, types.UnionType):
        return [group for option in inner for group in groups_in(option)]
    return []


def words(kind: Any) -> str:
    """A type as people say it: ``a | b | null``, ``number``, ``list of text``."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return words(inner[0]) + _bounds(inner[1:])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(words(option) for option in inner))
    if origin is typing.Literal:
        return " | ".join(str(option) for option in inner)
    if origin is tuple:
        return f"list of {words(inner[0])}"
    return NAMES.get(kind) or PLAIN.get(kind) or ("group" if groups_in(kind) else "mapping")


def _bounds(metadata: tuple[Any, ...]) -> str:
    found = [f"{SIGNS[key]} {value:g}" for key, value in bounds_in(metadata).items()]
    return f" {', '.join(found)}" if found else ""


def bounds_in(metadata: tuple[Any, ...]) -> dict[str, float | int]:
    """The limits of a number, by the names that pydantic has for them: gt, ge, lt, le."""
    parts = [part for entry in metadata for part in getattr(entry, "metadata", [entry])]
    return {k: getattr(part, k) for part in parts for k in SIGNS if hasattr(part, k)}


def said(value: Any) -> str:
    """A value as a recipe says it; ``needed`` where there is no default."""
    if value is PydanticUndefined:
        return NEEDED
    if type(value) in NAMES:
        return NAMES[type(value)]
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(said, value)) + "]"
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return "as below"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= LONG else f"{text[:LONG]}…"


@cache
def docstrings(group: type[Any]) -> dict[str, str]:
    """Descriptions of the fields of a class; those of its ancestors where it is silent."""
    found: dict[str, str] = {}
    for owner in reversed(group.__mro__):
        if owner.__module__.startswith("backflip."):
            found |= _own_docstrings(owner)
    return found


def _own_docstrings(owner: type[Any]) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = str(after.value.value)
            found[field.target.id] = " ".join(text.replace("``", "").split())
    return found
