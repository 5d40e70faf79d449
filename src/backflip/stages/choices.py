"""Settings that are one of several dataclasses, told apart by their names in a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_type_hints

from pydantic import (
    BeforeValidator,
    Discriminator,
    InstanceOf,
    PlainSerializer,
    Tag,
    TypeAdapter,
    ValidationError,
)

from backflip.algorithms.discover import DIRECT, ONLINE, PROCESS, REWARD
from backflip.algorithms.preference.mixture import Mixture
from backflip.sampling.choosing import CHOOSERS

__all__ = ["NAMES", "TERMS", "made_of", "name_in", "named", "one_of", "rates_of", "register"]

TERMS = {name: kind for name, kind in DIRECT.items() if getattr(kind, "combines", False)}
"""Objectives that a mixture may be made of."""
NAMES: dict[type[Any], str] = {
    kind: name for name, kind in (REWARD | PROCESS | ONLINE | DIRECT | CHOOSERS).items()
}
"""Names of algorithms, and of ways to choose, in a recipe."""


def named(algorithm: Any) -> dict[str, Any]:
    """An algorithm as a recipe says it: its name, then its fields."""
    said: dict[str, Any] = {"name": NAMES[type(algorithm)]}
    for field in dataclasses.fields(algorithm):
        value = getattr(algorithm, field.name)
        terms = isinstance(value, tuple) and all(type(entry) in NAMES for entry in value)
        said[field.name] = [named(term) for term in value] if terms else value
    return said


def name_in(value: Any) -> Any:
    """The ``name`` of an algorithm that is a mapping, a word, or already an object."""
    if isinstance(value, Mapping):
        return value.get("name")
    return NAMES.get(type(value), value)


def rates_of(value: Any) -> tuple[float, float] | None:
    """Learning rates (with LoRA, for all weights) that a setting's objective asks for, if any."""
    kind = DIRECT.get(name_in(value))
    return None if kind is None else kind.rates


def register(table: Mapping[str, type[Any]]) -> None:
    """Make the names of further classes known to recipes."""
    NAMES.update({kind: name for name, kind in table.items()})


def one_of(
    table: Mapping[str, type[Any]], made_by: Mapping[type[Any], Callable[[Any], Any]] | None = None
) -> Any:
    """The type of a setting that is one of these classes, told apart by their names.

    ``made_by``: functions that make some of them out of their mappings; see ``made_of``.
    """
    plain, special = BeforeValidator(_without_name), {**MADE_BY, **(made_by or {})}
    options = tuple(
        Annotated[InstanceOf[kind], BeforeValidator(special[kind]), Tag(name)]
        if kind in special
        else Annotated[kind, plain, Tag(name)]
        for name, kind in table.items()
    )
    return Annotated[Union[options], Discriminator(name_in), PlainSerializer(named)]  # noqa: UP007


def _without_name(value: Any) -> Any:
    if isinstance(value, str):
        return {}
    if isinstance(value, Mapping):
        return {key: entry for key, entry in value.items() if key != "name"}
    return value


def made_of(kind: type[Any], table: Mapping[str, type[Any]]) -> Callable[[Any], Any]:
    """Makes something of several terms out of its mapping: each is named like one alone.

    ``weights``, where it has such a field, holds a number for each term.
    """
    name = next(iter(NAMES[kind].split("_")))
    hints = {key: hint for key, hint in get_type_hints(kind).items() if key != "terms"}
    some, weighed = ", ".join(list(table)[:2]), "weights" in hints

    def made(value: Any) -> Any:
        if not isinstance(value, Mapping | str):
            return value
        given = dict(_without_name(value))
        terms, weights = given.pop("terms", None) or (), given.get("weights") or ()
        if weighed and (not terms or len(terms) != len(weights)):
            raise ValueError(
                f"{len(terms)} terms and {len(weights)} weights; give at least one term, and a "
                f"weight for each, as in {{name: {name}, terms: [{some}], weights: [1, 0.5]}}"
            )
        if not terms:
            raise ValueError(f"no terms; give some, as in {{name: {name}, terms: [{some}]}}")
        if unknown := set(given) - {field.name for field in dataclasses.fields(kind)}:
            raise ValueError(f"a {name} has no setting {', '.join(sorted(unknown))}")
        read = TypeAdapter(one_of(table))
        return kind(
            terms=tuple(read.validate_python(term) for term in terms),
            **{key: _as(hints[key], entry, key) for key, entry in given.items()},
        )

    return made


def _as(kind: Any, value: Any, name: str) -> Any:
    """A value of a type. Raises ValueError where it is none."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name}: {error.errors()[0]['msg']}") from error


MADE_BY: dict[type[Any], Callable[[Any], Any]] = {Mixture: made_of(Mixture, TERMS)}
"""Classes that are made by a function of their own."""
