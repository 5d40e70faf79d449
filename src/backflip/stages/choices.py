"""Settings that are one of several dataclasses, told apart by their names in a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Union

from pydantic import (
    BeforeValidator,
    Discriminator,
    InstanceOf,
    PlainSerializer,
    Tag,
    TypeAdapter,
)

from backflip.algorithms.discover import DIRECT, ONLINE, REWARD
from backflip.algorithms.preference.mixture import Mixture
from backflip.sampling.choosing import CHOOSERS

__all__ = ["NAMES", "TERMS", "name_in", "named", "one_of", "rates_of"]

TERMS = {name: kind for name, kind in DIRECT.items() if getattr(kind, "combines", False)}
"""Objectives that a mixture may be made of."""
NAMES: dict[type[Any], str] = {
    kind: name for name, kind in (REWARD | ONLINE | DIRECT | CHOOSERS).items()
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


def one_of(table: Mapping[str, type[Any]]) -> Any:
    """The type of a setting that is one of these classes, told apart by their names."""
    plain = BeforeValidator(_without_name)
    options = tuple(
        Annotated[InstanceOf[kind], BeforeValidator(_mixture), Tag(name)]
        if kind is Mixture
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


def _mixture(value: Any) -> Any:
    """A mixture out of its mapping: each term is an objective that is named like one alone."""
    if not isinstance(value, Mapping | str):
        return value
    given = _without_name(value)
    terms, weights = given.get("terms") or (), given.get("weights") or ()
    if not terms or len(terms) != len(weights):
        raise ValueError(
            f"{len(terms)} terms and {len(weights)} weights; give at least one term, and a weight "
            "for each, as in {name: mixture, terms: [dpo, simpo], weights: [1, 0.5]}"
        )
    made = TypeAdapter(one_of(TERMS))
    plain = {key: entry for key, entry in given.items() if key not in ("terms", "weights")}
    unknown = set(plain) - {field.name for field in dataclasses.fields(Mixture)}
    if unknown:
        raise ValueError(f"a mixture has no setting {', '.join(sorted(unknown))}")
    return Mixture(
        terms=tuple(made.validate_python(term) for term in terms),
        weights=tuple(float(weight) for weight in weights),
        **{key: float(entry) for key, entry in plain.items()},
    )
