"""Kinds of tasks, found by their files: ``kinds/rank.py`` holds the kind "rank" as ``KIND``."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from backflip.feedback import kinds
from backflip.feedback.kinds.base import Kind

SHARED = ("base", "fields", "form", "pairs", "registry", "respondent")
"""Files of the folder that are no kinds."""


def _found() -> dict[str, Kind[Any, Any]]:
    names = [module.name for module in pkgutil.iter_modules(kinds.__path__)]
    made = [import_module(f"{kinds.__name__}.{name}").KIND for name in names if name not in SHARED]
    return {kind.name: kind for kind in sorted(made, key=lambda kind: kind.place)}


_KINDS = _found()
KINDS: tuple[str, ...] = tuple(_KINDS)
"""Names, in the order in which people choose among them."""
if TYPE_CHECKING:
    KindName: TypeAlias = str
else:
    KindName = Literal[KINDS]


def kind_of(name: str) -> Kind[Any, Any]:
    """The kind of a name. Raises KeyError where there is none."""
    return _KINDS[name]


def known_kind(name: object) -> Kind[Any, Any] | None:
    """The kind of a name that may be none."""
    return _KINDS.get(name) if isinstance(name, str) else None


def every_kind() -> tuple[Kind[Any, Any], ...]:
    """All kinds, in the order in which people choose among them."""
    return tuple(_KINDS.values())


def named(kinds: Iterable[Kind[Any, Any]]) -> str:
    """Names of some kinds, for a sentence."""
    return ", ".join(kind.name for kind in kinds)
