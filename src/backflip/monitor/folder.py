"""Reads run folders back: what ``report.py`` and ``live.py`` show.

A run is one folder, or a folder with one run folder per stage (``sft/``, ``reward_model/``,
``ppo/``). Any file may be missing: a run may just have begun.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backflip.errors import UserError
from backflip.monitor.log import (
    ALARMS,
    FILES,
    METRICS,
    SAMPLES,
    Entry,
    check_any_run,
    is_run,
    read_lines,
    read_metrics,
)
from backflip.monitor.outcomes import givers, whole
from backflip.monitor.run import Run, Stage, algorithm_of
from backflip.monitor.views import place_of

FRESH = 180.0
"""Seconds without a new line after which an unfinished run is no longer called running."""


def read_run(folder: Path | str) -> Run:
    """Read a run folder.

    Raises UserError when there is no run in the folder, or a file in it is damaged.
    """
    folder = Path(folder)
    check_any_run(folder)
    parts = _stage_folders(folder)
    stages = [stage for part in parts for stage in _stages(part, alone=part == folder)]
    return Run(
        name=folder.resolve().name,
        folder=folder,
        state=_state(folder, parts),
        stages=stages,
        recipe=_recipe(folder, parts),
        environment=_json(folder / "environment.json") or _json(parts[-1] / "environment.json"),
        summary=_json(folder / "summary.json"),
    )


def newest_change(folder: Path | str) -> str:
    """A short text that differs whenever a file of the run has changed."""
    folder = Path(folder)
    places = [folder, *_stage_folders(folder)]
    files = [place / name for place in places for name in FILES]
    stats = [file.stat() for file in files if file.is_file()]
    newest = max((s.st_mtime_ns for s in stats), default=0)
    return f"{len(stats)}-{sum(s.st_size for s in stats)}-{newest}"


def _stage_folders(folder: Path) -> list[Path]:
    """The folders with a log: sub-folders in the order of the pipeline, else the folder itself."""
    parts = [p for p in folder.iterdir() if is_run(p)] if folder.is_dir() else []
    if parts and not (folder / METRICS).is_file():
        return sorted(parts, key=lambda part: place_of(part.name))
    return [folder] if is_run(folder) else []


def _stages(folder: Path, *, alone: bool) -> list[Stage]:
    """The stages of one folder: one, unless its log names several."""
    entries = read_metrics(folder)
    names = list(dict.fromkeys(entry.stage for entry in entries))
    if not names or not alone:
        names = [folder.name if not alone else (names or [_method(folder)])[0]]
        entries = [Entry(e.step, names[0], e.time, e.metrics) for e in entries]
    samples, alarms = list(read_lines(folder / SAMPLES)), list(read_lines(folder / ALARMS))
    summary = _json(folder / "summary.json")
    algorithm = algorithm_of(_yaml(_text(folder / "recipe.yaml")))
    return [
        Stage(
            name=name,
            entries=_whole([e for e in entries if e.stage == name]),
            samples=[s for s in samples if not alone or s.get("stage", names[-1]) == name],
            alarms=[a for a in alarms if not alone or (a.get("stage") or names[-1]) == name],
            summary=summary if name == names[-1] else {},
            algorithm=algorithm,
        )
        for name in names
    ]


def _whole(entries: Sequence[Entry]) -> list[Entry]:
    """A stage's entries with the shares that nobody had as 0, also before the first verdict."""
    giving = {name for entry in entries for name in givers(entry.metrics)}
    return [replace(e, metrics=whole(e.metrics, giving)) for e in entries] if giving else [*entries]


def _method(folder: Path) -> str:
    recipe = _yaml(_text(folder / "recipe.yaml"))
    return str(recipe.get("method") or recipe.get("stage") or folder.resolve().name)


def _state(folder: Path, parts: Sequence[Path]) -> str:
    """The state that the summary names; else a run is finished when its summary is written.

    Stages that no recipe holds together are finished when all of them are.
    """
    if stated := _json(folder / "summary.json").get("state"):
        return str(stated)
    whole = [folder] if (folder / "recipe.yaml").is_file() else parts
    if (folder / "summary.json").is_file() or all((p / "summary.json").is_file() for p in whole):
        return "finished"
    logs = [part / METRICS for part in parts if (part / METRICS).is_file()]
    logs += folder.glob(f"round_*/*/{METRICS}")
    latest = max((log.stat().st_mtime for log in logs), default=0.0)
    return "running" if time.time() - latest < FRESH else "unfinished"


def _recipe(folder: Path, parts: Sequence[Path]) -> str:
    own = _text(folder / "recipe.yaml")
    if own or folder in parts:
        return own
    named = [(part.name, _text(part / "recipe.yaml")) for part in parts]
    return "\n".join(f"# {name}\n{text}" for name, text in named if text)


def flat_recipe(text: str) -> dict[str, str]:
    """The settings of a recipe, nested ones with dotted names."""
    return _flat(_yaml(text))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, name + ".") if isinstance(value, Mapping) else {name: _word(value)}
    return flat


def _word(value: Any) -> str:
    """A setting as YAML spells it: null and true."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _yaml(text: str) -> Mapping[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}). Restore or remove it.") from error
    return value if isinstance(value, dict) else {}
