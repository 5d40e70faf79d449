"""The commands that show a recipe: ``recipe``, and ``schema`` for editors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from backflip.cli import console
from backflip.cli.arguments import RecipeName
from backflip.cli.console import say

if TYPE_CHECKING:
    from backflip.recipes.describe import Setting

FEW = 5
"""Algorithms whose settings are listed side by side; of more, only those of the chosen one."""
OFTEN = (
    "data.limit", "data.max_length", "data.held_out", "epochs", "steps", "batch_size", "turns",
    "reference", "template", "eval_every", "checkpoint_every", "trackers", "threads", "seed",
)  # fmt: skip
"""Settings that people change although recipes seldom say them."""
SCREEN = 26
"""Lines of a recipe and its settings that are shown at once."""


def recipe(
    name: RecipeName,
    everything: Annotated[
        bool, typer.Option("--all", help="Every setting, its value, its meaning, its limits.")
    ] = False,
) -> None:
    """Print a recipe: what people change in it; with --all every setting that it has."""
    from backflip.monitor.progress import starting
    from backflip.recipes.names import find_recipe

    find_recipe(name)
    with starting(aside=True):
        pass
    print_recipe(name, everything=everything)


def schema(
    name: RecipeName,
) -> None:
    """Print the JSON schema of a recipe, by which editors complete and check its YAML.

    Keep it in a file and name that in the recipe's first line:
    # yaml-language-server: $schema=dpo.schema.json
    """
    import json

    from backflip.recipes.names import find_recipe

    path = find_recipe(name)
    from backflip.recipes.json_schema import schema as made
    from backflip.recipes.load import read_yaml, stage_in

    typer.echo(json.dumps(made(stage_in(read_yaml(path), path)), indent=2, ensure_ascii=False))


def print_recipe(name: str, *, everything: bool = False) -> None:
    """A recipe as it is written and what else is often changed; or every setting there is."""
    from backflip.recipes.describe import settings
    from backflip.recipes.load import load_recipe
    from backflip.recipes.names import find_recipe

    path = find_recipe(name)
    recipe = load_recipe(name)
    values = _flat(recipe.model_dump(mode="json"))
    chosen = {values.get(f"{p}name") for p in _algorithms(values)}
    listed = settings(recipe.stage)
    own = [setting for setting in listed if not setting.choice or setting.choice in chosen]
    if everything:
        whole = len({setting.choice for setting in listed}) <= FEW
        for setting in listed if whole else own:
            _print_setting(setting, values if setting in own else {})
        if not whole:
            say("what each of the other objectives has: backflip recipe NAME --all")
        return
    text = path.read_text(encoding="utf-8").rstrip()
    console.out.print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    rest = {setting.path: setting for setting in own}
    lines = text.count("\n")
    more = [rest[path] for path in OFTEN if path in rest and not re.search(rf"\b{path}:", text)]
    if more and lines + len(more) < SCREEN:
        made = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        made.add_column(no_wrap=True)
        made.add_column(overflow="fold")
        for setting in more:
            value = values.get(setting.path, setting.default)
            made.add_row(Text(f"{setting.path}={value}"), Text(_first_clause(setting.meaning)))
        console.out.print(Text("\nalso often changed", style="bold"))
        console.out.print(made)
    say(f"\nall {len(own)} settings: backflip recipe {name} --all", "dim")


def _first_clause(meaning: str) -> str:
    """As much of a meaning as a line holds."""
    return re.split(r"[;:(]|\. |, where ", meaning)[0].strip().rstrip(".")


def _print_setting(setting: Setting, values: Mapping[str, str]) -> None:
    """A setting with its value and what it may be, then what it means."""
    value = values.get(setting.path, setting.default)
    line = Text(setting.path, style="bold").append(f" = {value}", style="not bold")
    kind = f"   {setting.kind}" + (f", of {setting.choice}" if setting.choice else "")
    console.out.print(line.append(kind, style="not bold dim"))
    console.out.print(Padding(Text(setting.meaning), (0, 0, 0, 4)))


def _algorithms(values: Mapping[str, str]) -> list[str]:
    return [key.removesuffix("name") for key in values if key.endswith(".name")]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    from backflip.recipes.describe import said

    found: dict[str, str] = {}
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}.")
            if "name" in value:
                found[path] = str(value["name"])
        else:
            found[path] = said(value)
    return found
