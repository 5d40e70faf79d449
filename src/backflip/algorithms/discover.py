"""Algorithms by the names of their files: ``preference/simpo.py`` holds what a recipe calls simpo.

A new algorithm is one file with one final class; nothing else lists it.
"""

from __future__ import annotations

import inspect
import pkgutil
from functools import cache
from importlib import import_module
from typing import Any

import backflip.algorithms as room
from backflip.algorithms.base import Objective

__all__ = ["DIRECT", "ONLINE", "REWARD", "title_of"]


def algorithms_in(folder: str) -> dict[str, type[Any]]:
    """The final classes of a sub-room, each by the name of its file."""
    package = import_module(f"{room.__name__}.{folder}")
    found: dict[str, type[Any]] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        name = module.name.rpartition(".")[2]
        for kind in vars(import_module(module.name)).values():
            if _is_algorithm(kind) and kind.__module__ == module.name:
                assert name not in found, f"{module.name} holds two algorithms"
                found[name] = kind
    return found


def _is_algorithm(kind: Any) -> bool:
    if not (isinstance(kind, type) and issubclass(kind, Objective)):
        return False
    return "title" in kind.__dict__ and not inspect.isabstract(kind)


REWARD = algorithms_in("reward")
"""Objectives of reward models."""
ONLINE = algorithms_in("online")
"""Algorithms that raise a reward."""
DIRECT = algorithms_in("preference")
"""Objectives of the direct family."""


@cache
def title_of(name: str) -> str:
    """The title of an algorithm, ``SimPO`` for ``simpo``; of one that is not known, its name."""
    kind = (REWARD | ONLINE | DIRECT).get(name)
    return name if kind is None else kind.title
