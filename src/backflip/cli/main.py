"""The command line. Heavy imports stand inside the commands, so that ``--help`` comes at once."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from backflip import __version__
from backflip.cli import complete as completing
from backflip.cli.arguments import RecipeName, Settings, Template
from backflip.cli.check import check
from backflip.cli.collect import collect
from backflip.cli.measure import best_of_n, evaluate
from backflip.cli.push import push
from backflip.errors import Interrupted, NonFiniteError, UserError, WaitingForLabels

BUG = 1
"""The exit code of whatever is a mistake in the code."""
OURS = (UserError, Interrupted, WaitingForLabels, NonFiniteError)
"""Ends of a command that are nobody's mistake in the code; each bears its exit code."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The whole loop of reinforcement learning from human feedback.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code.

    What the user can put right is one line on stderr and code 2, an interruption is code 130,
    anything else code 1. ``--debug``, anywhere, shows the traceback as well.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    command = [word for word in given if word != "--debug"]
    if not debug and not sys.warnoptions:  # advice of libraries to whoever calls them
        warnings.simplefilter("ignore", FutureWarning)
    try:
        with contextlib.nullcontext() if debug else _notes():
            code = _run(command)
    except BaseException as error:
        if debug:
            import traceback

            traceback.print_exc()
        code = _failed(error)
    sys.stdout.flush()
    raise SystemExit(code if isinstance(code, int) else 0)


def _run(command: list[str]) -> Any:
    """Run a command, or say what may follow where a shell asks that."""

    def run() -> Any:
        return app(args=command, prog_name="backflip", standalone_mode=False)

    return completing.complete(run) if completing.ASKED in os.environ else run()


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Our own warnings as one line each, without the place in the code that they come from."""
    usual, ours = warnings.showwarning, str(Path(__file__).parent.parent)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(ours):
            _complain(f"note: {message}")
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def _failed(error: BaseException) -> int:
    """Say on stderr what went wrong; returns the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else BUG
    if isinstance(error, BrokenPipeError):  # whoever read our output has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until we leave)
        return 0
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # from the parser
        cast("Any", error).show()
        return UserError.exit_code
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        error = Interrupted(str(error) or "interrupted")
    if isinstance(error, OURS):
        _complain(str(error))
        return error.exit_code
    _complain(
        f"{type(error).__name__}: {error}\nThis is a bug in backflip: --debug shows where it is."
    )
    return BUG


def _complain(message: str) -> None:
    print(f"backflip: {message}", file=sys.stderr)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    del debug  # taken out by main, wherever it stands
    if version:
        print(f"backflip {__version__}")
        raise typer.Exit


@app.command()
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
    """Train by a recipe: fine-tuning, a reward model, PPO, all three, or the direct family."""
    from backflip.cli import console
    from backflip.recipes import slips

    slips.check(recipe, settings or [])  # answered before anything heavy is imported
    if help_recipe:
        console.print_recipe(recipe, everything=True)
        return
    from backflip import api
    from backflip.monitor.progress import starting

    with starting():
        from backflip.recipes.advice import advise
        from backflip.recipes.load import load_recipe

    if sweep:
        console.print_sweep(api.sweep(recipe, sweep, settings or []))
        return
    ready = load_recipe(recipe, settings or [])
    console.notes(advise(ready))
    console.print_result(api.train(ready))


@app.command()
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
    from backflip.cli import console
    from backflip.recipes.names import SWEEP

    if (run / SWEEP).is_file():
        console.print_sweep(api.resume_sweep(run))
        return
    console.print_result(api.resume(run))


app.command()(check)


@app.command()
def show(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of one run, or of several.", autocompletion=completing.runs),
    ],
    live: Annotated[bool, typer.Option("--live", help="Follow a running run.")] = False,
    port: Annotated[int, typer.Option(help="Port of --live on this machine.")] = 8600,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write the report of a run, compare several, or follow a running one."""
    from backflip.cli import console

    if live:
        if len(runs) > 1:
            raise UserError(f"--live follows one run, and {len(runs)} were given.")
        console.follow(runs[0], port, browser=open_)
        return
    console.print_runs(runs, browser=open_)


@app.command()
def chat(
    model: Annotated[
        str,
        typer.Argument(
            help="A run, a folder, a hub name, or smollm2.", autocompletion=completing.runs
        ),
    ],
    other: Annotated[
        str | None,
        typer.Argument(help="Another one, side by side.", autocompletion=completing.runs),
    ] = None,
    template: Template = None,
    max_tokens: Annotated[int, typer.Option(help="Longest reply, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Likeliest tokens that hold this share.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Least share of the likeliest token's.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Decides the replies.")] = 0,
) -> None:
    """Talk to a model, or to two at once; reads one prompt where there is no terminal."""
    from backflip.recipes import slips

    slips.check_models(model, other)
    from backflip import api
    from backflip.cli import chat as chatting
    from backflip.monitor.progress import shown, starting

    with starting(aside=True):
        from backflip.evaluation.conversation import Conversation

    given: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given |= {"top_p": top_p, "min_p": min_p}
    names = [name for name in (model, other) if name is not None]
    with shown(aside=True):
        chats = [Conversation(api.model_of(name), template=template, **given) for name in names]
    chatting.talk(names, chats)


app.command()(evaluate)
app.command()(best_of_n)
app.command()(collect)
app.command()(push)


@app.command()
def recipe(
    name: RecipeName,
    everything: Annotated[
        bool, typer.Option("--all", help="Every setting, its value, its meaning, its limits.")
    ] = False,
) -> None:
    """Print a recipe: what people change in it; with --all every setting that it has."""
    from backflip.cli import console
    from backflip.monitor.progress import starting
    from backflip.recipes.names import find_recipe

    find_recipe(name)
    with starting(aside=True):
        pass
    console.print_recipe(name, everything=everything)


@app.command()
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

    print(json.dumps(made(stage_in(read_yaml(path), path)), indent=2, ensure_ascii=False))


@app.command()
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
