"""Arguments and groups of options that the commands of feedback share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

PORT = 8700
NAME = typer.Argument(help="Its name: small letters of any script, digits, - and _.")

Project = Annotated[str, NAME]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="What is asked: kind=compare, raters_per_item=3, scale=8 …; makes the project, "
        "or changes it.",
        show_default=False,
    ),
]
Place = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The database: a path, sqlite:///… or postgresql://…; "
        "else $BACKFLIP_FEEDBACK or feedback.sqlite.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help="The folder of clips, trained models and logs; else NAME-files beside the "
        "database NAME.sqlite.",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Network:
    """Where the server listens, and which names and proxies it believes."""

    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = PORT
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page.")] = True
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, for https.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None
    without_tls: Annotated[
        bool,
        typer.Option(
            help="Let other machines in without https: in a container, or in a network of your own."
        ),
    ] = False
    public_url: Annotated[
        str,
        typer.Option(
            metavar="https://NAME",
            envvar="BACKFLIP_PUBLIC_URL",
            help="Where a reverse proxy shows the server: its name in links, and Secure cookies.",
        ),
    ] = ""
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name that the server answers to."),
    ] = None
    proxy_secret: Annotated[
        str,
        typer.Option(
            envvar="BACKFLIP_PROXY_SECRET",
            help="Believe a reverse proxy that sends this in X-Backflip-Proxy.",
        ),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Options of a server beside its database."""

    files: Folder = None
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="To talk with: a folder, or an address."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a file's rows become items, and who answers its prompts."""

    gold: Annotated[bool, typer.Option(help="Imported labels are the right answers.")] = False
    answers: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Who answers the imported prompts; again for another."),
    ] = None
    temperature: Annotated[
        list[float] | None, typer.Option(help="At which --answers does; again for another.")
    ] = None
    max_tokens: Annotated[int, typer.Option(help="Longest reply of --answers.")] = 256
    limit: Annotated[int | None, typer.Option(help="Rows to import at most.")] = None


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which answers are written, and what a row is."""

    per: Annotated[
        str | None, typer.Option(help="A row for each item (aggregated), or for each answer.")
    ] = None
    golden: Annotated[bool, typer.Option(help="Export what seniors keep for probes.")] = False
