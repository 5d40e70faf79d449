"""``backflip chat``: prompts come in, replies appear as they are written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from backflip.cli import complete as completing
from backflip.cli.arguments import Template
from backflip.errors import UserError

if TYPE_CHECKING:
    from backflip.evaluation.conversation import Conversation

HELP = "/reset forgets what was said, /quit (or Ctrl-D) ends the chat"


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
    from backflip.monitor.progress import shown, starting

    with starting(aside=True):
        from backflip.evaluation.conversation import Conversation

    given: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given |= {"top_p": top_p, "min_p": min_p}
    names = [name for name in (model, other) if name is not None]
    with shown(aside=True):
        chats = [Conversation(api.model_of(name), template=template, **given) for name in names]
    talk(names, chats)


def talk(names: Sequence[str], chats: Sequence[Conversation]) -> None:
    """Answer until there is nothing more to answer.

    At a terminal a line is a turn; otherwise all of stdin is one prompt.

    Raises UserError for an empty prompt on stdin.
    """
    if not sys.stdin.isatty():
        _answer_once(names, chats, sys.stdin.read())
        return
    console = Console(highlight=False)
    console.print(Text(HELP, style="dim"))
    while (asked := _asked(console)) is not None:
        if asked == "/reset":
            for chat in chats:
                chat.reset()
        elif asked.startswith("/"):
            console.print(Text(HELP, style="dim"))
        elif asked:
            _reply(console, names, chats, asked)


def _asked(console: Console) -> str | None:
    """The typed line; None when the chat is over."""
    try:
        typed = console.input("[bold]> [/bold]").strip()
    except (EOFError, KeyboardInterrupt):
        return None
    return None if typed in ("/quit", "/exit") else typed


def _answer_once(names: Sequence[str], chats: Sequence[Conversation], prompt: str) -> None:
    if not prompt.strip():
        raise UserError("there is no prompt on stdin. Try: echo 'Hello' | backflip chat MODEL")

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    for name, chat in zip(names, chats, strict=True):
        if len(chats) > 1:
            write(f"[{name}]\n")
        chat.say(prompt.strip(), write)
        write("\n")


def _reply(
    console: Console, names: Sequence[str], chats: Sequence[Conversation], asked: str
) -> None:
    """One reply after the other, in columns; Ctrl-C cuts a reply off and goes on."""
    texts = [Text() for _ in chats]
    try:
        if len(chats) == 1:
            chats[0].say(asked, lambda piece: console.print(Text(piece), end="", soft_wrap=True))
            console.print()
            return
        with Live(_columns(names, texts), console=console, vertical_overflow="visible") as live:
            for chat, text in zip(chats, texts, strict=True):
                chat.say(asked, partial(_add, text))
                live.refresh()
    except KeyboardInterrupt:
        console.print(Text(" (cut off)", style="dim"))


def _add(text: Text, piece: str) -> None:
    text.append(piece)


def _columns(names: Sequence[str], texts: Sequence[Text]) -> Table:
    grid = Table(expand=True, box=None, padding=(0, 2, 1, 0))
    for name in names:
        grid.add_column(Text(name, style="bold"), ratio=1, overflow="fold")
    grid.add_row(*texts)
    return grid
