"""All settings of all recipes, read from a file: what a slip is answered from, before any model.

``settings.json`` is what ``listing.py`` wrote of the classes, whose modules import torch. It says
from which sources; where those have changed it is not believed, and the classes are asked instead.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["FILE", "Leaf", "believed", "digest", "groups", "leaves"]

PACKAGE = Path(__file__).parent.parent
FILE = Path(__file__).parent / "settings.json"


@dataclass(frozen=True)
class Leaf:
    """A setting that is no group, or a group that has kinds."""

    path: str
    """Dotted name."""
    default: str
    """As a recipe would say it."""
    choice: str
    """The algorithm that has it, where only one of several does."""
    schema: Mapping[str, Any]
    """Its type as JSON schema; empty where that is more than a number or a word."""


@cache
def _read() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


@cache
def leaves(recipe: str) -> tuple[Leaf, ...]:
    """The settings of a recipe, by the value of ``stage``; none for one that is not known."""
    return tuple(Leaf(*row) for row in _read().get("settings", {}).get(recipe, ()))


def groups(names: Iterable[str]) -> set[str]:
    """The names, and those of the groups around them."""
    found = set(names)
    for name in list(found):
        parts = name.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts))}
    return found


@cache
def believed() -> bool:
    """Whether the sources still say what the file says."""
    sources = _read().get("sources", {})
    return bool(sources) and all(digest(PACKAGE / name) == was for name, was in sources.items())


def digest(path: Path) -> str:
    """Of all that a source says of settings: fields, docstrings and tables, not the code."""
    if not path.is_file():
        return ""
    said: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        body = node.body if isinstance(node, ast.ClassDef) else [node]
        said += [ast.dump(part) for part in body if isinstance(part, ast.AnnAssign | ast.Assign)]
        if isinstance(node, ast.ClassDef):
            said.append(f"{node.name}({', '.join(map(ast.unparse, node.bases))})")
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
