"""The command line. Heavy imports stand inside the commands, so that ``--help`` comes at once."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from backflip import __version__
from backflip.collecting import collect
from backflip.data.errors import UserError

USER_ERROR, INTERRUPTED, BUG, WAITING = 2, 130, 1, 75
"""Exit codes; 75 is that of programs that are to be started once more later."""
OURS = ("NonFiniteError",)
"""Ends of a run that are nobody's mistake in the code, by name: their modules import torch."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The whole loop of reinforcement learning from human feedback.",
)

RECIPE = "sft, reward_model, ppo, rlhf; dpo, kto, simpo, …; iterative_dpo, raft, …; or a YAML file."
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings of the recipe, such as data=rows.jsonl or algorithm.kl_coef=0.1.",
        show_default=False,
    ),
]
Format = Annotated[str | None, typer.Option(help="Format of the data; else by its columns.")]
Limit = Annotated[int | None, typer.Option(help="Rows to read at most.")]
MaxLength = Annotated[int | None, typer.Option(help="Longest prompt and answer, in tokens.")]
Template = Annotated[str | None, typer.Option(help="chatml, hh or plain, for a model without.")]


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
            code = app(args=command, prog_name="backflip", standalone_mode=False)
    except BaseException as error:
        if debug:
            import traceback

            traceback.print_exc()
        code = _failed(error)
    sys.stdout.flush()
    raise SystemExit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Our own warnings as one line each, without the place in the code that they come from."""
    usual, ours = warnings.showwarning, str(Path(__file__).parent)

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
    kind, said = type(error).__name__, str(error)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else BUG
    if isinstance(error, BrokenPipeError):  # whoever read our output has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until we leave)
        return 0
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # from the parser
        cast("Any", error).show()
        return USER_ERROR
    if isinstance(error, KeyboardInterrupt) or kind in ("Interrupted", "Abort"):
        code, said = INTERRUPTED, said or "interrupted"
    elif isinstance(error, UserError):
        code = USER_ERROR
    elif kind == "WaitingForLabels":
        code = WAITING
    else:
        advice = "" if kind in OURS else "\nThis is a bug in backflip: --debug shows where it is."
        code, said = BUG, f"{kind}: {said}{advice}"
    _complain(said)
    return code


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
    recipe: Annotated[str, typer.Argument(help=RECIPE)],
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
    from backflip.recipes.names import find_recipe

    find_recipe(recipe)  # a slip is answered before anything heavy is imported
    from backflip import console

    if help_recipe:
        console.print_recipe(recipe)
        return
    from backflip import api
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
    run: Annotated[Path, typer.Argument(help="Folder of what was interrupted: a run, a sweep.")],
) -> None:
    """Go on with a run from its last checkpoint, or with what is missing of a sweep."""
    from backflip import api, console
    from backflip.recipes.load import SWEEP

    if (run / SWEEP).is_file():
        console.print_sweep(api.resume_sweep(run))
        return
    console.print_result(api.resume(run))


@app.command()
def check(
    what: Annotated[str, typer.Argument(help="Data (file, folder, hub name, demo:…), or recipe.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Of a recipe: its settings, and price=MONEY per hour. "
            "Of data: kind, format, limit, model, template, max_length, against.",
            show_default=False,
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
    from backflip.recipes.names import hint, pairs

    known = [name for name in inspect.signature(api.check).parameters if name != "data"]
    given = pairs(settings) | dict(options)
    for name in given:
        if name not in known:
            raise UserError(f"unknown setting {name!r} for data. {hint(name, known)}")
    for name in ("limit", "max_length"):
        if not isinstance(given.get(name), int | None):
            raise UserError(f"{name} is {given[name]!r}; it must be a whole number.")
    from backflip import console

    console.print_audit(api.check(data, **given))


def _check_recipe(name: str, settings: Sequence[str], *, measure: bool) -> None:
    from backflip import console
    from backflip.recipes import forecast
    from backflip.recipes.advice import advise
    from backflip.recipes.load import load_recipe
    from backflip.recipes.rules import check_recipe

    own = [text for text in settings if not text.startswith("price=")]
    recipe = load_recipe(name, own)
    check_recipe(recipe)
    price = forecast.price_in(settings)
    plans = forecast.plan(recipe)
    console.print_plans(plans)
    console.notes(advise(recipe))
    if measure:
        console.say("measuring a few steps …")
        console.print_forecast(forecast.forecast(recipe, plans, price=price))


@app.command()
def show(
    runs: Annotated[list[Path], typer.Argument(help="Folders of one run, or of several.")],
    live: Annotated[bool, typer.Option("--live", help="Follow a running run.")] = False,
    port: Annotated[int, typer.Option(help="Port of --live on this machine.")] = 8600,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write the report of a run, compare several, or follow a running one."""
    from backflip import console

    if live:
        if len(runs) > 1:
            raise UserError(f"--live follows one run, and {len(runs)} were given.")
        console.follow(runs[0], port, browser=open_)
        return
    console.print_runs(runs, browser=open_)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run, a folder, a hub name, or smollm2.")],
    other: Annotated[str | None, typer.Argument(help="Another one, side by side.")] = None,
    template: Template = None,
    max_tokens: Annotated[int, typer.Option(help="Longest reply, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Likeliest tokens that hold this share.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Least share of the likeliest token's.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Decides the replies.")] = 0,
) -> None:
    """Talk to a model, or to two at once; reads one prompt where there is no terminal."""
    from backflip import api, chatting
    from backflip.evaluate.conversation import Conversation

    given: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given |= {"top_p": top_p, "min_p": min_p}
    names = [name for name in (model, other) if name is not None]
    chats = [Conversation(api.model_of(name), template=template, **given) for name in names]
    chatting.talk(names, chats)


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A reward model or a direct run; or any model, with reference=….")
    ],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA [KEY=VALUE]...",
            help="Comparisons (file, folder, hub name, demo:…), then reference=MODEL for a "
            "language model, beta=0.1, template=chatml, and the options below.",
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
    from backflip import api, console

    options = {"format": format, "limit": limit, "max_length": max_length, "policy": policy}
    given = {name: value for name, value in options.items() if value is not None}
    report = api.evaluate(model, **(_evaluated(settings) | given))
    if json_:
        import json

        print(json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False))
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


@app.command(name="best-of-n")
def best_of_n(
    model: Annotated[str, typer.Argument(help="Who answers: a run, a folder, a hub name.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA KEY=VALUE...",
            help="Prompts (file, folder, hub name, demo:…), then reward_model=FOLDER, n=16, "
            "out=best_of_n.jsonl, max_tokens, temperature, limit, format, template, seed.",
            show_default=False,
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Answer prompts n times, keep the best by a reward model, and say what n buys."""
    from backflip import api, console
    from backflip.recipes.names import settings_of

    given = settings_of(api.best_of_n, settings, "best-of-n")
    if "reward_model" not in given:
        raise UserError("who chooses? Give reward_model=FOLDER, a reward model or its run.")
    found = api.best_of_n(model, **given)
    if json_:
        import json

        print(json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False))
    else:
        console.print_best_of_n(found)


app.command()(collect)


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help=RECIPE)],
) -> None:
    """Print a recipe and all of its settings, with their values and meanings."""
    from backflip import console

    console.print_recipe(name)


@app.command()
def demo(
    settings: Settings = None,
) -> None:
    """All three stages on the package's own data, in minutes."""
    from backflip.demo.run import run_demo

    run_demo(settings or [])
