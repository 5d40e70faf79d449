"""The command ``ray``: another command, carried out by several processes of a Ray cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from backflip.errors import UserError

WORDS = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
"""What stands behind the first word belongs to the command that is carried out."""


def ray(
    command: Annotated[list[str], typer.Argument(help="train RECIPE …, or resume RUN.")],
    ranks: Annotated[int, typer.Option(help="Processes, each with a device of its own.")] = 1,
    address: Annotated[
        str, typer.Option(help="local starts Ray here, auto finds it here, else HOST:PORT.")
    ] = "local",
    restarts: Annotated[
        int, typer.Option(help="How often all are started again after one has failed.")
    ] = 3,
    gpus: Annotated[
        float | None, typer.Option(help="Devices of each process; one if the cluster has some.")
    ] = None,
) -> None:
    """Train on the machines of a Ray cluster: backflip ray --ranks 8 train dpo data=…"""
    if command[0] not in ("train", "resume"):
        raise UserError(
            f"ray carries out train and resume; this is {command[0]}. Start it without ray."
        )
    if ranks < 1 or restarts < 0:
        raise UserError(f"--ranks is {ranks}, --restarts {restarts}: at least 1 and 0.")
    from backflip.cluster.ranks import Ranks

    raise SystemExit(Ranks(command, ranks, address, restarts, gpus).run())
