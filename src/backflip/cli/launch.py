"""The command ``launch``: a file that starts a recipe on machines of a cluster."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from backflip.cli.arguments import RecipeName, Settings, ungrouped
from backflip.errors import UserError


class Kind(StrEnum):
    """Who starts the job."""

    slurm = "slurm"
    skypilot = "skypilot"
    kuberay = "kuberay"


ENDINGS = {Kind.slurm: "sh", Kind.skypilot: "yaml", Kind.kuberay: "yaml"}
START = {
    Kind.slurm: "sbatch",
    Kind.skypilot: "sky jobs launch",
    Kind.kuberay: "kubectl apply -f",
}
"""Commands that take the file."""


@dataclass(frozen=True)
class Asked:
    """Machines, and what else the file must say."""

    nodes: Annotated[int, typer.Option(help="Machines.")] = 1
    devices: Annotated[int, typer.Option(help="Devices in each, and processes.")] = 8
    device: Annotated[
        str | None, typer.Option(help="Kind of device: h100, …; cpu for machines without.")
    ] = None
    hours: Annotated[float, typer.Option(help="Longest time of a job.")] = 24.0
    setup: Annotated[
        str | None, typer.Option(help="skypilot: the command that installs backflip.")
    ] = None
    image: Annotated[str | None, typer.Option(help="kuberay: image with ray and backflip.")] = None
    volume: Annotated[
        str | None, typer.Option(help="kuberay: claim of the volume of data and runs.")
    ] = None


@ungrouped
def launch(
    kind: Annotated[Kind, typer.Argument(help="Who starts the job.")],
    recipe: RecipeName,
    asked: Asked,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; NAME-KIND.sh or .yaml unless given.")
    ] = None,
) -> None:
    """Write a file that starts a recipe on several devices or machines, and print it."""
    from backflip.cluster.job import Job, Machines
    from backflip.cluster.kuberay import kuberay
    from backflip.cluster.skypilot import skypilot
    from backflip.cluster.slurm import slurm

    machines = Machines(nodes=asked.nodes, devices=asked.devices, device=asked.device)
    job = Job.of(recipe, settings or [], machines, asked.hours, Path.cwd())
    if kind is Kind.slurm:
        text = slurm(job)
    elif kind is Kind.skypilot:
        text = skypilot(job, asked.setup)
    else:
        text = kuberay(job, asked.image, asked.volume)
    file = out or Path(f"{job.name}-{kind.value}.{ENDINGS[kind]}")
    _write(file, text)
    typer.echo(text, nl=False)
    for sentence in (*job.remarks(), *job.recipe.advice()):
        typer.echo(f"note: {sentence}", err=True)
    typer.echo(f"written: {file}. Start it: {START[kind]} {shlex.quote(str(file))}", err=True)


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError as error:
        raise UserError(f"{file} is there already. Remove it, or give --out.") from error
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}. Give --out.") from error
