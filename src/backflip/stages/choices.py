"""Settings that are one of several dataclasses, told apart by their names in a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union

from pydantic import (
    BeforeValidator,
    Discriminator,
    InstanceOf,
    PlainSerializer,
    Tag,
    TypeAdapter,
)

from backflip.algorithms.discover import DIRECT, ONLINE, PROCESS, REWARD
from backflip.algorithms.preference.mixture import Mixture
from backflip.sampling.choosing import CHOOSERS

__all__ = ["NAMES", "TERMS", "name_in", "named", "one_of", "rates_of", "register", "sum_of"]

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

    ``made_by``: functions that make some of them out of their mappings; see ``sum_of``.
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


def sum_of(kind: type[Any], table: Mapping[str, type[Any]]) -> Callable[[Any], Any]:
    """Makes a weighted sum out of its mapping: each term is named like one alone."""
    name = next(iter(NAMES[kind].split("_")))

    def made(value: Any) -> Any:
        if not isinstance(value, Mapping | str):
            return value
        given = _without_name(value)
        terms, weights = given.get("terms") or (), given.get("weights") or ()
        if not terms or len(terms) != len(weights):
            some = ", ".join(list(table)[:2])
            raise ValueError(
                f"{len(terms)} terms and {len(weights)} weights; give at least one term, and a "
                f"weight for each, as in {{name: {name}, terms: [{some}], weights: [1, 0.5]}}"
            )
        read = TypeAdapter(one_of(table))
        plain = {key: entry for key, entry in given.items() if key not in ("terms", "weights")}
        unknown = set(plain) - {field.name for field in dataclasses.fields(kind)}
        if unknown:
            raise ValueError(f"a {name} has no setting {', '.join(sorted(unknown))}")
        return kind(
            terms=tuple(read.validate_python(term) for term in terms),
            weights=tuple(float(weight) for weight in weights),
            **{k: v if v is None or isinstance(v, bool) else float(v) for k, v in plain.items()},
        )

    return made


MADE_BY: dict[type[Any], Callable[[Any], Any]] = {Mixture: sum_of(Mixture, TERMS)}
"""Classes that are made by a function of their own."""
