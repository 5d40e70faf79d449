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
from backflip.cli.chat import chat
from backflip.cli.check import check
from backflip.cli.compute import label_steps
from backflip.cli.feedback.collect import collect
from backflip.cli.feedback.commands import feedback
from backflip.cli.launch import launch
from backflip.cli.measure import best_of_n, evaluate
from backflip.cli.push import push
from backflip.cli.ray import WORDS, ray
from backflip.cli.recipe import recipe, schema
from backflip.cli.show import show
from backflip.cli.train import demo, resume, train
from backflip.distributed.joining import rank_given, several
from backflip.errors import Interrupted, NonFiniteError, RankError, UserError, WaitingForLabels

BUG = 1
"""The exit code of whatever is a mistake in the code."""
OURS = (UserError, Interrupted, WaitingForLabels, NonFiniteError, RankError)
"""Ends of a command that are nobody's mistake in the code; each bears its exit code."""

ROOM = (
    "What takes less memory: token_budget=, max_rows=, activation_checkpointing=true, lora, "
    "quantization=nf4, optimizer.state_bits=8, reference_device=cpu, or more devices. backflip "
    "check RECIPE says what takes how much (docs/scale.md)."
)
"""Advice where a device is full."""

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
        if several():
            _one_of_several(command)
        with contextlib.nullcontext() if debug else _notes():
            code = _run(command)
    except BaseException as error:
        if debug:
            import traceback

            traceback.print_exc()
        code = _failed(error)
    sys.stdout.flush()
    raise SystemExit(code if isinstance(code, int) else 0)


def _one_of_several(command: Sequence[str]) -> None:
    """Of the processes of torchrun one prints; all of them can train, and nothing else."""
    if rank_given():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until we leave)
    if not command or command[0] not in ("train", "resume") or "--sweep" in command:
        raise UserError(
            "torchrun starts several processes, which can do `backflip train RECIPE` and `backflip "
            "resume RUN` together, and nothing else. Start this command without torchrun."
        )


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
        if filename.startswith(ours) and rank_given():
            return  # rank 0 says the same
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
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        _complain(f"{str(error).split('. ')[0]}. {ROOM}")
        return BUG
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


app.add_typer(feedback, name="feedback")
for _command in (train, resume, check, show, chat, evaluate, best_of_n, label_steps):
    app.command()(_command)
for _command in (collect, push, recipe, schema, launch, demo):
    app.command()(_command)
app.command(context_settings=WORDS)(ray)
