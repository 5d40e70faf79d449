"""Folders of models that are complete under their names, or as they were before."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from backflip.errors import UserError
from backflip.progress import task

__all__ = ["written_whole"]


def written_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Write beside the folder and rename: what bears the name is complete.

    Whatever goes wrong, the temporary folder goes, and what bore the name before stays.

    Raises:
        UserError: the disk is full, or may not be written to.

    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
        )
        with task(f"saving {folder.name}"), temporary as beside:
            new, old = Path(beside) / "new", Path(beside) / "old"
            new.mkdir()
            write(new)
            _replace(folder, new, old)
    except Exception as error:
        if not _by_disk(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"{folder} could not be written: {reason}. Set that right (free some space), then: "
            f"backflip resume {shlex.quote(str(folder.parent))}"
        ) from error


def _replace(folder: Path, new: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _by_disk(error: Exception) -> bool:
    """Whether the system refused to write: safetensors and tokenizers say so in their own ways."""
    return isinstance(error, OSError | SafetensorError) or "(os error " in str(error)
