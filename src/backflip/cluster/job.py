"""A recipe that is to run on several devices: the command that starts it, quoted for a shell."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backflip.errors import UserError
from backflip.recipes.load import load_recipe
from backflip.recipes.names import find_recipe, shipped
from backflip.stages.base import Recipe

__all__ = ["CPU", "Job", "Machines"]

CPU = "cpu"
"""The device of a machine without accelerators."""
PORT = 29500
"""Where the processes meet on the first node."""
RESTARTS = 3
"""Of all processes after one has died: the first may still meet addresses of the dead ones."""
LEAD, GRACE = 300, 240
"""Seconds before the end of a job at which its run is told to save; seconds that it may take."""
SHORTEST = 0.25
"""Hours of a job: beside ``LEAD`` there must be some to learn in."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Nodes, and the devices in each of them."""

    nodes: int
    devices: int
    """Processes of a node: one for each device."""
    device: str | None = None
    """Kind of device, such as h100, or cpu."""

    @property
    def plain(self) -> bool:
        """Whether there are no accelerators."""
        return (self.device or "").lower() == CPU

    def check(self) -> None:
        """Raises UserError for numbers of which there cannot be any."""
        for name, value in (("--nodes", self.nodes), ("--devices", self.devices)):
            if value < 1:
                raise UserError(f"{name} is {value}; give a whole number from 1.")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe, its settings, and the machines that it is to run on."""

    recipe: Recipe
    file: Path | None
    """The recipe's own file, where it is not one that is shipped."""
    words: tuple[str, ...]
    """The recipe and its settings as they were given, without the run."""
    machines: Machines
    hours: float
    """Longest time of a job; a run that takes longer goes on in the next."""
    folder: Path
    """Where the command was given: names of files are told from there."""

    @staticmethod
    def of(
        name: str, settings: Sequence[str], machines: Machines, hours: float, folder: Path
    ) -> Job:
        """Read the recipe, and refuse what cannot run. Data and models are not looked for here.

        Raises:
            UserError: a recipe or setting that is not known or contradicts itself; a number of
                nodes, devices or hours that cannot be.

        """
        machines.check()
        if not SHORTEST <= hours <= 8760:
            raise UserError(
                f"--hours is {hours:g}; give {SHORTEST:g} to 8760: the run is told to save "
                f"{LEAD // 60} minutes before the end."
            )
        recipe = load_recipe(name, list(settings))
        for fault in recipe.faults():
            raise UserError(fault)
        file = None if name in shipped() else find_recipe(name).absolute()
        words = [text for text in settings if text.partition("=")[0].strip() != "run"]
        return Job(
            recipe=recipe,
            file=file,
            words=(name if file is None else _from(file, folder), *words),
            machines=machines,
            hours=hours,
            folder=folder,
        )

    @property
    def run(self) -> str:
        """The run's folder, which is the same however often the job is started."""
        return str(self.recipe.run)

    @property
    def name(self) -> str:
        """A name that schedulers take: letters, digits and dashes."""
        own = self.words[0] if self.file is None else self.file.stem
        return f"backflip-{re.sub('[^a-z0-9]+', '-', own.lower()).strip('-')[:40]}".strip("-")

    def begin(self) -> list[str]:
        """Lines of shell that set ``run``, and ``work``: the command that begins or goes on."""
        train = shlex.join(["train", *self.words, f"run={_as_setting(self.run)}"])
        return [
            f"run={shlex.quote(self.run)}",
            'if [ -e "$run/summary.json" ]; then',
            '  echo "$run is finished: nothing is left to do"',
            "  exit 0",
            'elif [ -e "$run/recipe.yaml" ]; then',
            '  work=(resume "$run")',
            "else",
            f"  work=({train})",
            "fi",
        ]

    def torchrun(self, *, head: str, number: str) -> str:
        """The command that starts the processes of one node.

        ``head`` and ``number``: in words of the shell, the first node and the number of the job.
        """
        machines = self.machines
        return (
            f"torchrun --nnodes {machines.nodes} --nproc-per-node {machines.devices} "
            f'--rdzv-backend c10d --rdzv-endpoint "{head}:{PORT}" --rdzv-id "{number}" '
            f'--max-restarts {RESTARTS} -m backflip "${{work[@]}}"'
        )

    def ray(self) -> str:
        """The command by which Ray starts the processes of all nodes."""
        count = self.machines.nodes * self.machines.devices
        gpus = 0 if self.machines.plain else 1
        options = f"--address auto --ranks {count} --restarts {RESTARTS} --gpus {gpus}"
        return f'backflip ray {options} "${{work[@]}}"'

    def graces(self) -> str:
        """The line of shell by which torchrun waits until a run has saved."""
        return f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={GRACE}"

    def remarks(self) -> Iterator[str]:
        """Sentences on files that nodes need and may not have."""
        for name, value in self._named():
            path = Path(value).expanduser()
            if path.exists() and not path.absolute().is_relative_to(self.folder):
                yield (
                    f"{name}={value} lies outside of {self.folder}: every node needs it under the "
                    "same name."
                )
            elif not path.exists() and (path.suffix or path.is_absolute()):
                yield f"{name}={value} is not on this machine: nodes must have it."

    def inside(self, kind: str) -> None:
        """Refuse what is not there on machines that do not share this one's files.

        Raises UserError for a run in a folder that goes with its machine, or a recipe outside of
        the folder that is copied.
        """
        if self.file is not None and Path(self.words[0]).is_absolute():
            raise UserError(
                f"{self.file} lies outside of {self.folder}, which is all that {kind} copies. "
                "Give the command in a folder above it."
            )
        if not Path(self.run).is_absolute():
            raise UserError(
                f"run={self.run} lies on a node's own disk, which other nodes do not see and which "
                "goes with it. Give run=/… in a folder of a volume that all nodes mount."
            )

    def _named(self) -> Iterator[tuple[str, str]]:
        for stage, prefix in self.recipe.parts():
            for name, value in (stage.sources() | stage.models()).items():
                if value is not None:
                    yield f"{prefix}{name}", value


def as_yaml(*documents: Any) -> str:
    """Mappings as YAML, texts of several lines as they are."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and what is said twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _as_setting(text: str) -> str:
    """A text as the value of a setting, which is read as YAML where that can be."""
    try:
        same = yaml.safe_load(text) == text
    except yaml.YAMLError:
        return text
    return text if same else json.dumps(text)


def _from(file: Path, folder: Path) -> str:
    """The file as it is called from ``folder``, where it lies below."""
    below = file.is_relative_to(folder)
    return os.path.relpath(file, folder) if below else str(file)
