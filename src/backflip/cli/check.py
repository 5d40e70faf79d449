"""The command ``check``: a look at data or at a recipe before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from backflip.cli import complete as completing
from backflip.cli.arguments import Format, Limit, MaxLength
from backflip.errors import UserError


def check(
    what: Annotated[
        str,
        typer.Argument(
            help="Data (file, folder, hub name, demo:…), or recipe.",
            autocompletion=completing.checked,
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Of a recipe: its settings, and price=MONEY per hour. "
            "Of data: kind, format, columns.NAME, limit, streaming, model, template, max_length, "
            "against.",
            show_default=False,
            autocompletion=completing.settings,
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option(help="Run a few steps of a recipe to forecast its time and memory.")
    ] = True,
    format: Format = None,
    limit: Limit = None,
    max_length: MaxLength = None,
) -> None:
    """Look before training: what is wrong with data, or what a recipe will do and cost."""
    from backflip.recipes.names import SUFFIXES, shipped

    options = {"format": format, "limit": limit, "max_length": max_length}
    given = {name: value for name, value in options.items() if value is not None}
    if what in shipped() or what.endswith(SUFFIXES):
        for name, value in given.items():
            word = name.replace("_", "-")
            raise UserError(f"--{word} is for data; of a recipe write data.{name}={value}.")
        _check_recipe(what, settings or [], measure=measure)
    else:
        _check_data(what, settings or [], given)


def _check_data(data: str, settings: Sequence[str], options: Mapping[str, Any]) -> None:
    import inspect

    from backflip import api
    from backflip.recipes import slips
    from backflip.recipes.names import hint, pairs, with_columns

    known = [name for name in inspect.signature(api.check).parameters if name != "data"]
    given = with_columns(pairs(settings)) | dict(options)
    for name in given:
        if name not in known:
            raise UserError(f"unknown setting {name!r} for data. {hint(name, known)}")
    if not isinstance(given.get("streaming", False), bool):
        raise UserError(f"streaming is {given['streaming']!r}; it must be true or false.")
    for name in ("limit", "max_length"):
        if not isinstance(given.get(name), int | None):
            raise UserError(f"{name} is {given[name]!r}; it must be a whole number.")
    for source in (data, given.get("against")):
        if source is not None:
            slips.check_data(str(source))
    slips.check_models(given.get("model"))
    slips.check_reading(data, given)
    from backflip.cli import findings

    findings.print_audit(api.check(data, **given))


def _check_recipe(name: str, settings: Sequence[str], *, measure: bool) -> None:
    from backflip.recipes import slips

    own = [text for text in settings if not text.startswith("price=")]
    slips.check(name, own)
    from backflip.cli import console, findings
    from backflip.monitor.progress import shown, starting

    with starting(aside=True):
        from backflip.recipes import forecast
        from backflip.recipes.advice import advise
        from backflip.recipes.check import check_recipe
        from backflip.recipes.load import load_recipe
    recipe = load_recipe(name, own)
    price = forecast.price_in(settings)
    with shown(aside=True):
        check_recipe(recipe)
        plans = forecast.plan(recipe)
    console.print_plans(plans)
    findings.print_read(plans)
    console.notes(advise(recipe))
    if measure:
        console.say("measuring a few steps …")
        with shown(aside=True):
            found = forecast.forecast(recipe, plans, price=price)
        console.print_forecast(found)
