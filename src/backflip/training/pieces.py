"""Tensors of a checkpoint in pieces, as several ranks wrote them; any number of ranks reads them.

The files are those of ``torch.distributed.checkpoint``, in a folder of the checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from backflip.distributed.world import here
from backflip.training.checkpoint_files import Files, Weights, facts_of

__all__ = ["Piece", "of_module", "whole_state", "write"]

FOLDER, METADATA = "pieces", ".metadata"
MARK = "sharded tensor"
"""Key of what stands in a state in the place of a tensor that lies in pieces."""


@dataclass(frozen=True)
class Piece:
    """A tensor in a folder of pieces, which is read when it is asked for."""

    folder: Path
    key: str
    shape: torch.Size

    @torch.no_grad()
    def like(self, other: Tensor) -> Tensor:
        """The tensor where ``other`` lies: whole, or the part of it that this rank holds."""
        checkpoint: Any = _library()
        out = torch.zeros_like(other).detach()
        with _quietly():
            reader = checkpoint.FileSystemReader(self.folder)
            checkpoint.load({self.key: out}, storage_reader=reader, no_dist=True)
        return out


def of_module(checkpoint: Path, name: str) -> dict[str, Piece]:
    """The tensors of one module by name; none where none lie in pieces."""
    prefix = f"weights.{name}."
    found = _pieces(checkpoint).items()
    return {key.removeprefix(prefix): piece for key, piece in found if key.startswith(prefix)}


def whole_state(state: Any, checkpoint: Path) -> Any:
    """A state with its pieces in the place of marks."""
    return _joined(state, _pieces(checkpoint))


def write(
    weights: Weights, state: Mapping[str, Any], checkpoint: Path
) -> tuple[Mapping[str, Any], Files]:
    """Write this rank's part of all tensors, forced onto the disk: every rank takes part.

    Returns the state without them, and size and SHA-256 of the files of all ranks. Raises OSError
    on every rank where one cannot write; its ``filename`` says which.
    """
    library: Any = _library()
    parts = weights.items()
    tensors = {f"weights.{m}.{name}": t for m, part in parts for name, t in part.items()}
    rest = _cut(state, tensors, "state")
    plain = {name: tensor.detach() for name, tensor in tensors.items()}
    folder, rank = checkpoint / FOLDER, here().rank
    try:
        with _quietly():
            library.save(plain, storage_writer=library.FileSystemWriter(folder, sync_files=True))
    except library.api.CheckpointException as error:
        failed, (cause, _) = min(error.failures.items())
        said = getattr(cause, "strerror", None) or str(cause)
        raise OSError(getattr(cause, "errno", None), said, f"rank {failed}") from error
    own = [*folder.glob(f"__{rank}_*"), *([folder / METADATA] if here().leads else [])]
    files = {f"{FOLDER}/{path.name}": facts_of(path) for path in own}
    return rest, {
        name: facts for theirs in here().everyone(files) for name, facts in theirs.items()
    }


def _pieces(checkpoint: Path) -> dict[str, Piece]:
    folder = checkpoint / FOLDER
    if not folder.is_dir():
        return {}
    library: Any = _library()
    known: Mapping[str, Any] = library.FileSystemReader(folder).read_metadata().state_dict_metadata
    return {key: Piece(folder, key, facts.size) for key, facts in known.items()}


def _cut(state: Any, found: dict[str, Tensor], name: str) -> Any:
    """A state with a mark in the place of each tensor that lies on several ranks."""
    if isinstance(state, Tensor) and hasattr(state, "full_tensor"):
        found[name] = state
        return {MARK: name}
    if isinstance(state, Mapping):
        parts = cast("Mapping[Any, Any]", state).items()
        return {key: _cut(part, found, f"{name}.{key}") for key, part in parts}
    if isinstance(state, list | tuple):
        many = cast("list[Any]", state)
        return type(many)([_cut(part, found, f"{name}.{at}") for at, part in enumerate(many)])
    return state


def _joined(state: Any, pieces: Mapping[str, Piece]) -> Any:
    if isinstance(state, dict):
        parts = cast("dict[Any, Any]", state)
        if parts.keys() == {MARK}:
            return pieces[parts[MARK]]
        return {key: _joined(part, pieces) for key, part in parts.items()}
    if isinstance(state, list | tuple):
        many = cast("list[Any]", state)
        return type(many)([_joined(part, pieces) for part in many])
    return state


def _library() -> Any:
    """Imported where something lies in pieces, and nowhere else."""
    import torch.distributed.checkpoint as library

    return library


@contextmanager
def _quietly() -> Generator[None]:
    """Without advice on loading in one process, which is what is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield
