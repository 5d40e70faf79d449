"""A run is a folder: recipe, metrics, samples, alarms, checkpoints, model."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.training.checkpoint_files import sync_folder
from backflip.training.checkpoints import (
    CheckpointStore,
    finite,
    resume_command,
    unwritable,
)
from backflip.training.place import RECIPE, check_run

__all__ = ["RunFolder", "write_atomically"]

OURS = (RECIPE, "metrics.jsonl", "checkpoints", "summary.json", "model", "adapter")
"""Files that a new run would write over."""


class FolderLock:
    """The lock that keeps every other process out of a folder.

    It ends with the process, however that ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._handle is not None

    def take(self) -> None:
        """Raises UserError when another process holds it."""
        path = self.folder / ".lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 80, 0).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise UserError(
                f"{self.folder} is in use by {holder}: two processes cannot train in one folder. "
                "Wait for it or stop it, or give another folder, run=…"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        self._handle = handle

    def free(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class RunFolder:
    """The folder of one run. Make it with ``create`` or ``open``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FolderLock(path)

    @staticmethod
    def create(path: Path | str, recipe: str) -> RunFolder:
        """A new run with ``recipe`` as its recipe.yaml.

        Raises UserError where there is a run already, or something that a run would write over.
        """
        run = RunFolder(Path(path))
        run.check_free()
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{run.path} cannot be made a run's folder: {error.strerror}. Give another, run=…"
            ) from error
        with run.locked():
            run.check_free()  # Somebody else may have come first.
            write_atomically(run.recipe_path, recipe)
        return run

    @staticmethod
    def open(path: Path | str) -> RunFolder:
        """A run that exists. Raises UserError when there is none."""
        run = RunFolder(Path(path))
        check_run(run.path)
        return run

    @staticmethod
    def holds_run(path: Path | str) -> bool:
        """Whether there is a run in this folder, finished or not."""
        return (Path(path) / RECIPE).is_file()

    def check_free(self) -> None:
        """Raises UserError where a new run would write over something."""
        if RunFolder.holds_run(self.path):
            state = "is finished" if self.finished else "is not finished"
            go_on = "" if self.finished else f"Go on with it: {resume_command(self.path)}. "
            raise UserError(
                f"{self.path} already holds a run, which {state}. {go_on}"
                "For a new one give another folder, run=…"
            )
        found = [name for name in OURS if (self.path / name).exists()]
        if found:
            raise UserError(
                f"{self.path} already holds {', '.join(found)}, which a run would write over. "
                "Give another folder, run=…"
            )

    @property
    def recipe_path(self) -> Path:
        return self.path / RECIPE

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples_path(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def alarms_path(self) -> Path:
        return self.path / "alarms.jsonl"

    @property
    def environment_path(self) -> Path:
        return self.path / "environment.json"

    @property
    def summary_path(self) -> Path:
        return self.path / "summary.json"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def model_path(self) -> Path:
        """A plain Hugging Face folder."""
        return self.path / "model"

    @property
    def adapter_path(self) -> Path:
        return self.path / "adapter"

    @property
    def kept_batches_path(self) -> Path:
        """Batches whose gradient was not finite."""
        return self.path / "kept_batches"

    @property
    def checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self.path / "checkpoints")

    @property
    def finished(self) -> bool:
        """Whether the summary, which is written last, is there."""
        return self.summary_path.is_file()

    def latest_step(self) -> int | None:
        """Step of the newest whole checkpoint; None before the first."""
        latest = self.checkpoints.latest()
        return latest.step if latest else None

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run, whole or not at all."""
        write_atomically(self.path / name, text)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write an object; numbers that are not finite become null."""
        text = json.dumps(finite(value), indent=2, ensure_ascii=False, default=_plain)
        write_atomically(self.path / name, text + "\n")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json: from now on the run is finished."""
        self.write_json(self.summary_path.name, summary)

    @contextlib.contextmanager
    def locked(self) -> Generator[None, None, None]:
        """Keep every other process out of the folder, for the length of the block.

        Blocks may be nested. Raises UserError when another process is in it.
        """
        if self._lock.held or not here().leads:
            yield
            return
        self._lock.take()
        try:
            self._sweep()
            yield
        finally:
            self._lock.free()

    def _sweep(self) -> None:
        """Remove what a killed process left half-written."""
        self.checkpoints.clean()
        for pattern in (".model-*", ".adapter-*", ".*.new"):
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is whole under its name, or as it was before.

    Raises UserError when it cannot be written, such as on a full disk.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(error, path.parent, len(data)) from error


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as numbers, everything else as text."""
    return finite(value.item()) if hasattr(value, "item") else str(value)
