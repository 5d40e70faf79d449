"""Algorithms by the names of their files: ``preference/simpo.py`` holds what a recipe calls simpo.

A new algorithm is one file with one final class; nothing else lists it.
"""

from __future__ import annotations

import inspect
import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from backflip.algorithms import online, preference, process, reward
from backflip.algorithms.base import Objective

__all__ = ["DIRECT", "ONLINE", "PROCESS", "REWARD", "classes_in", "title_of"]


def classes_in(package: ModuleType, base: type[Any]) -> dict[str, type[Any]]:
    """The final subclasses of ``base`` in a room, each by the name of its file, which holds one."""
    found: dict[str, type[Any]] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        name = module.name.rpartition(".")[2]
        for kind in vars(import_module(module.name)).values():
            final = isinstance(kind, type) and issubclass(kind, base) and not _is_open(kind)
            if final and kind.__module__ == module.name:
                assert name not in found, f"{module.name} holds two of them"
                found[name] = kind
    return found


def _is_open(kind: type[Any]) -> bool:
    """Whether a class is there to be subclassed: abstract, or an objective without a title."""
    untitled = issubclass(kind, Objective) and "title" not in kind.__dict__
    return untitled or inspect.isabstract(kind)


REWARD = classes_in(reward, Objective)
"""Objectives of reward models."""
PROCESS = classes_in(process, Objective)
"""Objectives of process reward models."""
ONLINE = classes_in(online, Objective)
"""Algorithms that raise a reward."""
DIRECT = classes_in(preference, Objective)
"""Objectives of the direct family."""


@cache
def title_of(name: str) -> str:
    """The title of an algorithm, ``SimPO`` for ``simpo``; of one that is not known, its name."""
    kind = (REWARD | PROCESS | ONLINE | DIRECT).get(name)
    return name if kind is None else kind.title
