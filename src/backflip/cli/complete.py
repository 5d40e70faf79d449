"""Completion in the shell: recipes, settings and their values, runs. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import typer

ASKED = "_BACKFLIP_COMPLETE"
"""The variable by which a shell's script asks, with the name of the shell."""
BREAKS = "=:"
"""Where bash breaks a word in two, so that it asks for the rest alone."""
MODELS = ("model", "other", "run", "policy", "reference", "reward_model", "judge")
"""Settings that name a model or a run."""
SOURCES = ("data", "source", "validation", "against")
"""Settings that name data."""
FILES = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".gz")

Offer = tuple[str, str]
"""A word, and what it stands for."""


def complete(answer: Callable[[], Any]) -> None:
    """Let typer answer the shell; for bash with words that it broke put together before."""
    if os.environ[ASKED] != "complete_bash":
        answer()
        return
    given = whole_words(os.environ)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stdout(heard):
            answer()
    finally:
        for line in heard.getvalue().splitlines():
            typer.echo(line.removeprefix(given))


def whole_words(asked: MutableMapping[str, str]) -> str:
    """Put ``key``, ``=`` and ``value`` together again; returns what bash has behind it already."""
    words, at = shlex.split(asked["COMP_WORDS"]), int(asked["COMP_CWORD"])
    whole: list[str] = []
    for index, word in enumerate(words[: at + 1]):
        broken = index > 0 and (word in BREAKS or words[index - 1] in BREAKS)
        whole = [*whole[:-1], whole[-1] + word] if broken else [*whole, word]
    asked["COMP_WORDS"] = shlex.join(whole)
    inside = at < len(words)
    asked["COMP_CWORD"] = str(len(whole) - 1 if inside else len(whole))
    last = whole[-1] if inside else ""
    return last[: max(last.rfind(sign) for sign in BREAKS) + 1]


def recipes(ctx: typer.Context, args: list[str], incomplete: str) -> Iterator[Offer]:
    """Names of shipped recipes, and YAML files."""
    from backflip.recipes.names import SUFFIXES, find_recipe, shipped

    del ctx, args
    for name in shipped():
        first = find_recipe(name).read_text(encoding="utf-8").partition("\n")[0]
        yield name, first.removeprefix("# ")
    yield from _paths(incomplete, SUFFIXES)


def checked(ctx: typer.Context, args: list[str], incomplete: str) -> Iterator[Offer]:
    """Arguments of check: recipes and data."""
    yield from recipes(ctx, args, incomplete)
    yield from data(incomplete)


def settings(ctx: typer.Context, args: list[str], incomplete: str) -> Iterator[Offer]:
    """Settings of the recipe that was named before; behind ``=``, values."""
    del args
    key, equals, begun = incomplete.partition("=")
    leaves = {leaf.path: leaf for leaf in _leaves(ctx.params)}
    if equals:
        for value, meaning in _values(key, begun, leaves.get(key)):
            yield f"{key}={value}", meaning
        return
    found = [leaf for path, leaf in leaves.items() if path.startswith(incomplete)]
    for leaf in found:
        yield f"{leaf.path}=", leaf.default
    if len(found) == 1:  # a second one keeps the shell from writing a space behind the first
        yield f"{found[0].path}={found[0].default}", "default"


def runs(ctx: typer.Context, args: list[str], incomplete: str) -> Iterator[Offer]:
    """Folders of runs, those of ``runs/`` first."""
    del ctx, args
    places = [Path("runs"), Path(incomplete).parent, Path(incomplete)]
    seen: set[str] = set()
    for place in places:
        for recipe in sorted(place.glob("*/recipe.yaml")) if place.is_dir() else ():
            if (name := recipe.parent.as_posix()) not in seen:
                seen.add(name)
                yield name, "a run"
    for name, meaning in _paths(incomplete, ()):
        if name.rstrip("/") not in seen:
            yield name, meaning


def data(incomplete: str) -> Iterator[Offer]:
    """Files of data, folders, and what the package ships."""
    yield from _paths(incomplete, FILES)
    for file in sorted((Path(__file__).parent.parent / "demo").glob("*.jsonl")):
        yield f"demo:{file.stem}", "shipped with the package"


def _leaves(params: dict[str, Any]) -> list[Any]:
    """Settings of a named recipe, without those of algorithms that it does not use."""
    import yaml

    from backflip.recipes.known import leaves
    from backflip.recipes.names import find_recipe

    name = next((params[key] for key in ("recipe", "what", "name") if params.get(key)), "")
    try:
        raw = yaml.safe_load(find_recipe(name).read_text(encoding="utf-8"))
        text, stage = str(raw), raw["stage"]
    except (ValueError, OSError, KeyError, TypeError, yaml.YAMLError):
        return []
    return [leaf for leaf in leaves(stage) if not leaf.choice or f"'{leaf.choice}'" in text]


def _values(key: str, begun: str, leaf: Any) -> Iterator[Offer]:
    group, _, last = key.rpartition(".")
    if last in MODELS and not group.endswith("columns"):
        yield "smollm2", "135 M parameters"
        yield "scratch", "made on the spot, characters as tokens"
        yield from runs(None, [], begun)  # pyright: ignore[reportArgumentType]
    elif last in SOURCES:
        yield from data(begun)
    elif last == "template":
        yield from ((name, "built in") for name in ("chatml", "hh", "plain"))
        yield from _paths(begun, (".jinja",))
    elif leaf is not None:
        for word in (*_words(leaf.schema), leaf.default):
            yield word, "default" if word == leaf.default else ""


def _words(schema: Any) -> list[str]:
    """The words that a value may be."""
    parts = [schema, *schema.get("anyOf", ()), schema.get("items") or {}]
    found = [
        str(word) for part in parts for word in (*part.get("enum", ()), *part.get("names", ()))
    ]
    if any(part.get("type") == "boolean" for part in parts):
        found += ["true", "false"]
    return list(dict.fromkeys(found))


def _paths(incomplete: str, endings: tuple[str, ...]) -> Iterator[Offer]:
    """Folders and files of these endings that begin like this."""
    begun = Path(incomplete)
    place = begun if incomplete.endswith("/") else begun.parent
    for path in sorted(place.glob("*")) if place.is_dir() else ():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield f"{path.as_posix()}/", "a folder"
        elif path.name.endswith(endings) and endings:
            yield path.as_posix(), "a file"
