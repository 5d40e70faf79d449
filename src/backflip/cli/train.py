"""The commands that train: ``train``, ``resume`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backflip.cli import complete as completing
from backflip.cli.arguments import RecipeName, Settings
from backflip.cli.console import notes
from backflip.cli.recipe import print_recipe
from backflip.cli.show import print_result, print_sweep


def train(
    recipe: RecipeName,
    settings: Settings = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,VALUE",
            help="A run for each value, such as objective.beta=0.05,0.1; again for a grid.",
        ),
    ] = None,
    help_recipe: Annotated[
        bool, typer.Option("--help-recipe", help="List the recipe's settings instead.")
    ] = False,
) -> None:
    """Train by a recipe: fine-tuning, a reward model, RL from rewards, or the direct family."""
    from backflip.recipes import slips

    slips.check(recipe, settings or [])  # answered before anything heavy is imported
    if help_recipe:
        print_recipe(recipe, everything=True)
        return
    from backflip import api
    from backflip.distributed.joining import joined
    from backflip.monitor.progress import starting

    with starting():
        from backflip.recipes.load import load_recipe

    if sweep:
        print_sweep(api.sweep(recipe, sweep, settings or []))
        return
    with joined():
        ready = load_recipe(recipe, settings or [])
        notes(ready.advice())
        print_result(api.train(ready))


def resume(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of what was interrupted: a run, a sweep.", autocompletion=completing.runs
        ),
    ],
) -> None:
    """Go on with a run from its last checkpoint, or with what is missing of a sweep."""
    from backflip import api
    from backflip.recipes.names import SWEEP

    if (run / SWEEP).is_file():
        print_sweep(api.resume_sweep(run))
        return
    print_result(api.resume(run))


def demo(
    settings: Settings = None,
) -> None:
    """All three stages on the package's own data, in minutes."""
    from backflip.monitor.progress import starting
    from backflip.recipes import slips

    slips.check(str(Path(__file__).parent.parent / "demo" / "demo.yaml"), settings or [])
    with starting():
        from backflip.demo.run import run_demo
    run_demo(settings or [])
