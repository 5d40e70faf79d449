"""The commands that measure a model: ``evaluate`` and ``best-of-n``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from backflip.cli import complete as completing
from backflip.cli.arguments import Format, Limit, MaxLength
from backflip.errors import UserError


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A reward model or a direct run; or any model, with reference=….",
            autocompletion=completing.runs,
        ),
    ],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA [KEY=VALUE]...",
            help="Comparisons (file, folder, hub name, demo:…), then reference=MODEL for a "
            "language model, beta=0.1, template=chatml, columns.NAME, and the options below.",
            show_default=False,
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    format: Format = None,
    limit: Limit = None,
    max_length: MaxLength = None,
    policy: Annotated[
        str | None, typer.Option(help="The model to be trained against it: compares sizes.")
    ] = None,
) -> None:
    """Accuracy and calibration of a reward model, or of a policy as one, on comparisons."""
    from backflip import api
    from backflip.cli import console
    from backflip.recipes import slips

    options = {"format": format, "limit": limit, "max_length": max_length, "policy": policy}
    given = {name: value for name, value in options.items() if value is not None}
    given = _evaluated(settings) | given
    slips.check_models(model, given.get("reference"), given.get("policy"))
    slips.check_data(given["data"])
    slips.check_reading(given["data"], given)
    slips.check_judge(model, given)
    report = api.evaluate(model, **given)
    if json_:
        import json

        typer.echo(json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False))
    else:
        console.print_report(report)


def _evaluated(words: Sequence[str]) -> dict[str, Any]:
    """What is to be evaluated on."""
    from backflip import api
    from backflip.recipes.names import settings_of

    given = settings_of(api.evaluate, words, "evaluate")
    if "beta" in given:
        try:
            given["beta"] = float(given["beta"])  # YAML takes 1e-3 for a word
        except (TypeError, ValueError) as error:
            wrong = f"beta is {given['beta']!r}; it must be a number above 0, such as 0.1."
            raise UserError(wrong) from error
    if "data" not in given:
        raise UserError("no comparisons are named. Give data=…: a file, a folder, a hub name.")
    return given


def best_of_n(
    model: Annotated[str, typer.Argument(help="Who answers: a run, a folder, a hub name.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA KEY=VALUE...",
            help="Prompts (file, folder, hub name, demo:…), then reward_model=FOLDER, n=16, "
            "out=best_of_n.jsonl, max_tokens, temperature, limit, format, columns.NAME, template, "
            "seed.",
            show_default=False,
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Answer prompts n times, keep the best by a reward model, and say what n buys."""
    from backflip import api
    from backflip.cli import console
    from backflip.recipes import slips
    from backflip.recipes.names import settings_of

    given = settings_of(api.best_of_n, settings, "best-of-n")
    if "reward_model" not in given:
        raise UserError("who chooses? Give reward_model=FOLDER, a reward model or its run.")
    slips.check_choice(given.get("n", 16), given.get("temperature", 1.0))
    slips.check_models(model, given["reward_model"])
    slips.check_data(given["data"])
    slips.check_reading(given["data"], given)
    found = api.best_of_n(model, **given)
    if json_:
        import json

        typer.echo(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
    else:
        console.print_best_of_n(found)
