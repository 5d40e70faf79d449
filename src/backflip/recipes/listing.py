"""Writes ``settings.json`` and ``docs/algorithms.md``: ``python -m backflip.recipes.listing``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from backflip.algorithms.discover import DIRECT, ONLINE, PROCESS, REWARD
from backflip.recipes.describe import fields_of, groups_in, said
from backflip.recipes.known import FILE, PACKAGE, digest
from backflip.recipes.load import aliases
from backflip.recipes.registry import RECIPES
from backflip.stages.choices import NAMES
from backflip.stages.settings import ANY_WORD

__all__ = ["algorithms_page", "listing"]

HEAD = """# Algorithms

Each is one file of `src/backflip/algorithms/`, by whose name a recipe calls it:
`backflip train NAME`, or `objective=NAME` (`algorithm=NAME` online). Settings stand with their
defaults; `backflip train NAME --help-recipe` says what each means. This page is made from the
classes, by `python -m backflip.recipes.listing`."""
ROOMS = {
    "Objectives of reward models": REWARD,
    "Objectives of process reward models": PROCESS,
    "Objectives of the direct family": DIRECT,
    "Online algorithms": ONLINE,
}
TABLES = ("stages/choices.py", "recipes/registry.py", "stages/settings.py", "stages/base.py")
PLAIN = {"number", "integer", "boolean", "null", "string"}


def listing() -> str:
    """The file's text, as the classes have it."""
    settings: dict[str, Any] = {}
    classes: set[type[Any]] = set()
    for name, recipe in RECIPES.items():
        settings[name] = [*_rows(recipe, "", "", classes), *_aliases(name)]
    files = {_file(owner) for kind in classes for owner in kind.__mro__ if _ours(owner)}
    sources = {name: digest(PACKAGE / name) for name in sorted(files | set(TABLES))}
    rows = {
        name: "[\n  " + ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in found) + "]"
        for name, found in settings.items()
    }
    body = ",\n ".join(f"{json.dumps(name)}: {text}" for name, text in rows.items())
    return f'{{"sources": {json.dumps(sources, indent=1)},\n"settings": {{{body}}}}}\n'


def _aliases(recipe: str) -> Iterator[list[Any]]:
    """Old names of settings, with those inside where they are groups."""
    for old, schema in sorted(aliases(recipe).items()):
        if isinstance(schema, Mapping):
            yield [old, str(schema.get("default", "null")), "", dict(schema)]
        else:
            fields = fields_of(schema)
            yield from ([f"{old}.{name}", said(d), "", _schema(k)] for name, k, d in fields)


def _rows(
    group: type[Any], prefix: str, choice: str, classes: set[type[Any]]
) -> Iterator[list[Any]]:
    classes.add(group)
    for name, kind, default in fields_of(group):
        path, options = f"{prefix}{name}", groups_in(kind)
        if len(options) != 1 or default is None:
            names = [NAMES[option] for option in options if option in NAMES]
            closed = names and name not in ANY_WORD
            schema = {"names": names} if closed else {} if options else _schema(kind)
            yield [path, said(default), choice, schema]
        for option in options:
            of = NAMES.get(option, "") if len(options) > 1 else choice
            yield from _rows(option, f"{path}.", of, classes)


def _schema(kind: Any) -> dict[str, Any]:
    """JSON schema of a number, a word, or one of several; empty for everything else."""
    try:
        found = TypeAdapter(kind).json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
        return {}
    parts = found.get("anyOf", [found])
    simple = all(part.get("type") in PLAIN and part.get("format") is None for part in parts)
    return found if simple else {}


def _ours(owner: type[Any]) -> bool:
    return owner.__module__.startswith("backflip.")


def _file(owner: type[Any]) -> str:
    source = Path(str(sys.modules[owner.__module__].__file__))
    return source.relative_to(PACKAGE).as_posix()


def algorithms_page() -> str:
    """``docs/algorithms.md``: a row for each algorithm, made from its class."""
    parts = [HEAD]
    for heading, table in ROOMS.items():
        parts.append(
            f"\n## {heading}\n\n| algorithm | recipe | in a line | settings |\n|---|---|---|---|"
        )
        parts += [_row(name, kind) for name, kind in sorted(table.items())]
    return "\n".join(parts) + "\n"


def _row(name: str, kind: type[Any]) -> str:
    """Title, name, first sentence and settings of an algorithm."""
    line = " ".join((kind.__doc__ or "").strip().split("\n\n")[0].split())
    settings = [f"`{field}` {said(default)}" for field, _, default in fields_of(kind)]
    return (
        f"| {kind.title} | `{name}` | {line.replace('|', chr(92) + '|')} | {', '.join(settings)} |"
    )


if __name__ == "__main__":
    FILE.write_text(listing(), encoding="utf-8")
    docs = PACKAGE.parents[1] / "docs"
    if docs.is_dir():  # a checkout
        (docs / "algorithms.md").write_text(algorithms_page(), encoding="utf-8")
