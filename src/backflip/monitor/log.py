"""The log of a run: one JSON object a line, readable after any crash.

A line counts once its newline is on disk. A half-written last line is therefore never read, and is
cut off before the next one is added. Numbers that are not finite are written as ``null``, which
keeps the files valid JSON, and are read back as NaN.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.monitor.trackers import Tracker

METRICS, SAMPLES, ALARMS = "metrics.jsonl", "samples.jsonl", "alarms.jsonl"
FILES = ("recipe.yaml", METRICS, SAMPLES, ALARMS, "environment.json", "summary.json")
"""Files by which a folder is known as a run."""


def is_run(folder: Path) -> bool:
    """Whether a folder itself holds a run, or one stage of it."""
    return folder.is_dir() and any((folder / name).is_file() for name in FILES)


def check_any_run(folder: Path) -> None:
    """Raises UserError where neither a folder nor a folder in it holds a run."""
    inner = list(folder.iterdir()) if folder.is_dir() else []
    if not any(is_run(place) for place in (folder, *inner)):
        raise UserError(
            f"{folder} holds no run: expected one of {', '.join(FILES)}, or a folder per stage "
            "with them. Give the folder that was named by run=."
        )


@dataclass(frozen=True)
class Entry:
    """The metrics of one step."""

    step: int
    stage: str
    time: float
    """Wall-clock seconds spent in the stage so far, breaks between resumptions left out."""
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Alarm:
    """Something to look at, or a reason to stop."""

    step: int
    name: str
    severity: Literal["warn", "stop"]
    sentence: str
    """The fault that was seen, and the way out."""
    stage: str = ""


class MetricsLog:
    """The three growing files of a run folder, and the history that the alarms look at.

    Opening a folder that already holds a log continues it; call ``truncate_after`` with the step of
    the checkpoint first, so that steps done twice are not written twice.
    """

    def __init__(self, folder: Path | str, *, trackers: Sequence[Tracker] = ()) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, SAMPLES, ALARMS):
            _cut_half_line(self.folder / name)
        self.trackers = tuple(trackers)
        self.history: list[Entry] = read_metrics(self.folder)
        self._start_clock()

    def append(self, step: int, stage: str, metrics: Mapping[str, Any]) -> Entry:
        """Write the metrics of a step. Tensors of one element are taken as numbers.

        Raises UserError when the disk is full.
        """
        numbers = {name: float(value) for name, value in metrics.items()}
        entry = Entry(step, stage, self.seconds(), numbers)
        line = {
            "step": step,
            "stage": stage,
            "time": round(entry.time, 3),
            "metrics": {name: _finite(value) for name, value in numbers.items()},
        }
        _append(self.folder / METRICS, [line])
        self.history.append(entry)
        for tracker in self.trackers:
            tracker.log(step, stage, numbers)
        return entry

    def samples(self, step: int, samples: Iterable[Mapping[str, Any]]) -> None:
        """Write answers worth reading: {"prompt", "answer", "score", …} each."""
        _append(self.folder / SAMPLES, [{"step": step, **_cleaned(sample)} for sample in samples])

    def alarms(self, alarms: Iterable[Alarm]) -> None:
        """Write alarms that have just fired."""
        _append(self.folder / ALARMS, [_cleaned(asdict(alarm)) for alarm in alarms])

    def truncate_after(self, step: int, stage: str | None = None) -> None:
        """Forget every line of a later step than ``step``, the checkpoint that a run resumes from.

        With ``stage``, only metrics and alarms of that stage, and samples that name it or no stage.
        """
        for name in (METRICS, SAMPLES, ALARMS):
            path = self.folder / name
            lines = list(read_lines(path))
            kept = [line for line in lines if not _is_later(line, step, stage)]
            if len(kept) < len(lines):
                _replace(path, kept)
        self.history = [e for e in self.history if not _is_later(asdict(e), step, stage)]
        self._start_clock()

    def seconds(self) -> float:
        """Wall-clock seconds spent, those before the last resumption included."""
        return self._spent + time.monotonic() - self._opened

    def sync(self) -> None:
        """Force the files onto the disk: call it before a checkpoint that relies on them."""
        for name in (METRICS, SAMPLES, ALARMS):
            path = self.folder / name
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def close(self) -> None:
        """Put the files on disk and let the trackers finish."""
        self.sync()
        for tracker in self.trackers:
            tracker.close()

    def _start_clock(self) -> None:
        self._spent = self.history[-1].time if self.history else 0.0
        self._opened = time.monotonic()


def read_metrics(folder: Path | str) -> list[Entry]:
    """Every complete line of metrics.jsonl, oldest first; none where there is no such file.

    Raises UserError when a line before the last is not what a run writes.
    """
    path = Path(folder) / METRICS
    entries: list[Entry] = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            metrics = {k: math.nan if v is None else float(v) for k, v in line["metrics"].items()}
            stage, seconds = str(line.get("stage", "")), float(line.get("time", 0.0))
            entries.append(Entry(int(line["step"]), stage, seconds, metrics))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}, entry {number}: expected an object with step, stage, time and metrics, "
                f"saw {str(line)[:80]!r}. Remove the line, or restore the file."
            ) from error
    return entries


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; a half-written last line is dropped.

    Raises UserError when a complete line is not a JSON object.
    """
    if not path.is_file():
        return
    *lines, _half = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            seen = line[:60].decode(errors="replace")
            raise UserError(
                f"{path}, line {number}: expected a JSON object, saw {seen!r}. "
                "Remove the line, or restore the file."
            )
        yield value


def _append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines in one write, or none of them; of several processes only rank 0 writes."""
    if not here().leads:
        return
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab", buffering=0) as file:
            data = memoryview(text.encode("utf-8", errors="replace"))
            while data:
                data = data[file.write(data) :]
    except OSError as error:
        if path.exists():
            os.truncate(path, before)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{path}: the disk is full, so step metrics cannot be written. Nothing written before "
            f"is lost. Free some space, then: backflip resume {path.parent}"
        ) from error


def _replace(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    if not here().leads:
        return
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    _append(temporary, lines)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _cut_half_line(path: Path) -> None:
    if path.is_file() and here().leads:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)


def _is_later(line: Mapping[str, Any], step: int, stage: str | None) -> bool:
    same_stage = stage is None or line.get("stage", stage) == stage
    return same_stage and int(line.get("step", 0)) > step


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cleaned(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _finite(v) if isinstance(v, float) else v for k, v in record.items()}
