"""The command that publishes a model: ``push``."""

from __future__ import annotations

from typing import Annotated

import typer


def push(
    run: Annotated[str, typer.Argument(help="A run, or the folder of a model.")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see a new repository.")
    ] = False,
) -> None:
    """Put a run's model on the Hugging Face hub, private unless you say --public."""
    from backflip import api

    done = api.push(run, name, private=not public)
    seen = "private" if done.private else "public"
    typer.echo(f"{done.files} files ({done.size / 1e6:,.1f} MB) are at {done.url}, {seen}")
    if done.removed:
        typer.echo(f"weights of an earlier push went: {', '.join(done.removed)}")
    if done.private == public:
        typer.echo(f"the repository was there before and stays {seen}: its settings change that")
