"""Arguments and options that several commands share. Light, as all that ``--help`` needs."""

from __future__ import annotations

from typing import Annotated

import typer

from backflip.cli import complete as completing

RECIPE = "sft, reward_model, ppo, rlhf; dpo, kto, simpo, …; iterative_dpo, raft, …; or a YAML file."
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings of the recipe, such as data=rows.jsonl or algorithm.kl_coef=0.1.",
        show_default=False,
        autocompletion=completing.settings,
    ),
]
RecipeName = Annotated[str, typer.Argument(help=RECIPE, autocompletion=completing.recipes)]
Format = Annotated[str | None, typer.Option(help="Format of the data; else by its columns.")]
Limit = Annotated[int | None, typer.Option(help="Rows to read at most.")]
MaxLength = Annotated[int | None, typer.Option(help="Longest prompt and answer, in tokens.")]
Template = Annotated[
    str | None, typer.Option(help="For a model without: chatml, hh, plain, FILE.jinja.")
]
