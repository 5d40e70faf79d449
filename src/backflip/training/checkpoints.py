"""Checkpoints that are whole or not there at all.

``RUN/checkpoints/step_000123/`` holds one safetensors file per module, ``state.pt`` (optimiser,
loop, data, random numbers; loads with ``weights_only``) and ``manifest.json`` with the size and
SHA-256 of each. Several processes write their parts of the tensors into ``pieces/`` instead, by
``torch.distributed.checkpoint``, from where any number of processes reads them. Everything is
written into a folder of another name, forced onto the disk, and renamed: a process that is killed
at any moment leaves the checkpoints before it as they were.
"""

from __future__ import annotations

import errno
import json
import math
import shlex
import shutil
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from backflip.distributed.layout import laid_out
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.models.learnt import learnt
from backflip.training import pieces
from backflip.training.checkpoint_files import (
    MANIFEST,
    STATE,
    Files,
    Weights,
    digest,
    size_of,
    sync_folder,
    write_all,
)

__all__ = ["Checkpoint", "CheckpointStore", "restore"]

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Ways in which an operating system says that no more fits."""
SLACK = 1 << 20
"""Bytes beside the tensors themselves: names, headers, the manifest."""


@torch.no_grad()
def restore(module: nn.Module, saved: Mapping[str, Tensor | pieces.Piece], where: Path) -> None:
    """Copy saved tensors into a module, in place. Raises UserError when it is another model."""
    own = learnt(module)
    strangers = sorted(own.keys() ^ saved.keys())
    strangers += [n for n in own if n in saved and own[n].shape != saved[n].shape]
    if strangers:
        raise UserError(
            f"{where}: the checkpoint is of another model: {len(strangers)} of {len(own)} tensors "
            f"differ, the first is {strangers[0]}. Resume with the recipe as it was, or start a "
            "new run."
        )
    for name, tensor in own.items():
        tensor.copy_(laid_out(saved[name], tensor))


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was written to its end."""

    step: int
    path: Path
    about: Mapping[str, Any]
    """Small facts that can be read without loading anything."""

    def weights(self, name: str) -> Mapping[str, Tensor | pieces.Piece]:
        """The tensors of one module: on the CPU, or still on the disk where ranks wrote them.

        Raises UserError when there is no such module.
        """
        from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

        if found := pieces.of_module(self.path, name):
            return found
        file = self.path / f"{name}.safetensors"
        if not file.is_file():
            there = ", ".join(sorted(p.stem for p in self.path.glob("*.safetensors")))
            raise UserError(f"{self.path} holds no module {name}, only: {there}")
        return load_file(file)

    def state(self) -> dict[str, Any]:
        """Optimiser, loop and data; nothing in it can run code."""
        state = torch.load(self.path / STATE, map_location="cpu", weights_only=True)
        return pieces.whole_state(state, self.path)


class CheckpointStore:
    """The checkpoints of a run, by step. Only who holds the run's lock may write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Steps of all checkpoints that bear a final name, whole or not, in order."""
        names = [path.name for path in self.folder.glob("step_*") if path.is_dir()]
        return sorted(int(name[5:]) for name in names if name[5:].isdigit())

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step:06d}"

    def clean(self) -> None:
        """Remove what an interrupted save or removal left behind."""
        for path in self.folder.glob(".tmp-*"):
            shutil.rmtree(path, ignore_errors=True)

    def save(
        self, step: int, weights: Weights, state: Mapping[str, Any], about: Mapping[str, Any]
    ) -> Checkpoint:
        """Write a checkpoint.

        Raises:
            UserError: the disk is full; earlier checkpoints are as they were.
            TypeError: ``state`` holds something that could not be loaded again.

        """
        needed = SLACK + sum(size_of(t) for part in weights.values() for t in part.values())
        needed += _checked(state, "state")
        temporary = self.folder / f".tmp-{self.path(step).name}"
        try:
            here().once(lambda: self._begin(temporary, needed))
            files: Files = {}
            if here().size > 1:
                state, files = pieces.write(weights, state, temporary)
                weights = {}
            here().once(lambda: write_all(temporary, weights, state, about, files))
            here().once(lambda: self._publish(temporary, self.path(step)))
        except BaseException as error:
            if here().leads:
                shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError):
                raise unwritable(error, self.folder, needed) from error
            raise
        return Checkpoint(step, self.path(step), dict(about))

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint; None where there is none at all.

        A damaged one is passed over with a warning. Raises UserError when all are damaged.
        """
        return here().once(self._latest)

    def _latest(self) -> Checkpoint | None:
        steps = self.steps()
        for step in reversed(steps):
            if checkpoint := self._at(step):
                return checkpoint
        if steps:
            raise UserError(
                f"{self.folder}: none of the {len(steps)} checkpoints is whole, so there is "
                f"nothing to go on from ({self._damage(self.path(steps[-1]))}). Restore the "
                "files, or remove this folder to begin again from step 0."
            )
        return None

    def at(self, step: int) -> Checkpoint | None:
        """The checkpoint of a step, or None with a warning when it is damaged."""
        return here().once(lambda: self._at(step))

    def _at(self, step: int) -> Checkpoint | None:
        path = self.path(step)
        damage = self._damage(path)
        if damage is None:
            about = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["about"]
            return Checkpoint(step, path, about)
        warnings.warn(f"the checkpoint {path} is damaged and passed over: {damage}", stacklevel=3)
        return None

    def retain(self, last: int, *, up_to: int, also: Collection[int] = ()) -> None:
        """Remove all but the ``last`` newest up to step ``up_to``, and those of ``also``.

        Later ones are leftovers of a future that has not happened: ``up_to`` was resumed from
        before them because they are damaged.
        """
        kept = [step for step in self.steps() if step <= up_to][-max(1, last) :]
        for step in self.steps():
            if step not in kept and step not in also:
                self._remove(self.path(step))

    def _remove(self, path: Path) -> None:
        # Renamed first: half a removal must not look like a damaged checkpoint.
        gone = path.with_name(f".tmp-gone-{path.name}")
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _begin(self, temporary: Path, needed: int) -> None:
        """Make the folder that a checkpoint is written into."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._room(needed)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()

    def _publish(self, temporary: Path, final: Path) -> None:
        if final.exists():
            self._remove(final)
        temporary.rename(final)
        sync_folder(self.folder)

    def _room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{free / 1e9:.2f} GB are free")

    def _damage(self, path: Path) -> str | None:
        """The damage of a checkpoint, if any."""
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            files = cast("Mapping[str, Any]", manifest["files"])
            for name, facts in files.items():
                size = (path / name).stat().st_size
                if size != facts["bytes"]:
                    return f"{name} has {size:,} bytes where {facts['bytes']:,} were written"
                if digest(path / name) != facts["sha256"]:
                    return f"{name} is not what was written (its SHA-256 differs)"
        except FileNotFoundError as error:
            return f"{Path(str(error.filename)).name} is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{MANIFEST} cannot be read ({error})"
        return None


def unwritable(error: OSError, folder: Path, needed: int) -> UserError:
    """The error where ``needed`` bytes did not get into a folder of a run."""
    run = folder.parent if folder.name == "checkpoints" else folder
    size = f"{needed:,} bytes ({needed / 1e9:.2f} GB)"
    rank = f"{error.filename}: " if str(error.filename).startswith("rank ") else ""
    if error.errno in FULL:
        return UserError(
            f"{rank}{folder}: the disk is full ({error.strerror}): {size} are needed. What was "
            f"written before is untouched. Free some space, then: {resume_command(run)}"
        )
    return UserError(
        f"{rank}{folder}: {size} cannot be written: {error.strerror}. Put that right, then: "
        f"{resume_command(run)}"
    )


def resume_command(run: Path) -> str:
    """The command that goes on with a run; a stage of a chain or round goes on with its chain."""
    folder = run.parent
    chain = folder.parent if folder.name.startswith("round_") else folder
    whole = chain if (chain / "recipe.yaml").is_file() else run
    return f"backflip resume {shlex.quote(str(whole))}"


def _checked(value: Any, where: str) -> int:
    """Bytes of the tensors in a state. Raises TypeError for what could not be loaded again."""
    if isinstance(value, Tensor):
        return size_of(value)
    if isinstance(value, Mapping):
        parts = cast("Mapping[Any, Any]", value).items()
        return sum(_checked(part, f"{where}.{key}") for key, part in parts)
    if isinstance(value, list | tuple):
        return sum(_checked(part, where) for part in cast("list[Any]", value))
    # Not isinstance: a float64 of NumPy is a float, but is not loaded again.
    if type(value) not in (int, float, str, bytes, bool, type(None)):
        raise TypeError(
            f"{where} is a {type(value).__name__}: a checkpoint holds tensors, numbers, strings, "
            "lists, tuples and dicts, which load without running code"
        )
    return 16


def finite(value: Any) -> Any:
    """The same structure for JSON: numbers that are not finite become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in cast("list[Any]", value)]
    return value
