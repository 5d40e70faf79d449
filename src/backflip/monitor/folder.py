"""Reads run folders back: what ``report.py`` and ``live.py`` show.

A run is one folder, or a folder with one run folder per stage (``sft/``, ``reward_model/``,
``ppo/``). Any file may be missing: a run may just have begun.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backflip.errors import UserError
from backflip.monitor.log import ALARMS, METRICS, SAMPLES, Entry, read_lines, read_metrics

FILES = ("recipe.yaml", METRICS, SAMPLES, ALARMS, "environment.json", "summary.json")
ORDER = ("sft", "reward_model", "direct", "ppo")
CHAIN = ("sft", "reward_model", "ppo")
"""The stages of a chain that is finished when all of them are."""
FRESH = 180.0
"""Seconds without a new line after which an unfinished run is no longer called running."""


@dataclass(frozen=True)
class Stage:
    """What one stage left behind."""

    name: str
    entries: Sequence[Entry]
    samples: Sequence[Mapping[str, Any]]
    alarms: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    objective: str = ""
    """What the recipe calls what it minimises; empty where it does not say."""

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """Steps and values of a metric, where it was measured and finite."""
        found = [(e.step, e.metrics[metric]) for e in self.entries if metric in e.metrics]
        kept = [(float(step), value) for step, value in found if math.isfinite(value)]
        return [step for step, _ in kept], [value for _, value in kept]

    def metrics(self) -> list[str]:
        """The names of all metrics, in the order of their first appearance."""
        return list(dict.fromkeys(name for e in self.entries for name in e.metrics))

    def length_baseline(self) -> tuple[str, float] | None:
        """What length alone gets on the held-out comparisons: (longer or shorter, share right)."""
        return length_baseline(self.summary)

    @property
    def seconds(self) -> float | None:
        """How long it took; None before the first step."""
        said = number(self.summary.get("seconds"))
        return said if said is not None else (self.entries[-1].time if self.entries else None)


@dataclass(frozen=True)
class Run:
    """What a run left behind."""

    name: str
    folder: Path
    state: str
    """finished, running or unfinished."""
    stages: Sequence[Stage]
    recipe: str
    """The resolved recipe, as text."""
    environment: Mapping[str, Any]
    summary: Mapping[str, Any]

    def find(self, key: str) -> tuple[Stage | None, Any]:
        """The last stage whose summary has the key, and its value."""
        for stage in reversed(self.stages):
            if stage.summary.get(key) is not None:
                return stage, stage.summary[key]
        return None, self.summary.get(key)

    @property
    def seconds(self) -> float | None:
        """Of all stages together."""
        said = number(self.summary.get("seconds"))
        spent = [s.seconds for s in self.stages if s.seconds is not None]
        return said if said is not None else (sum(spent) if spent else None)


def read_run(folder: Path | str) -> Run:
    """Read a run folder.

    Raises UserError when there is no run in the folder, or a file in it is damaged.
    """
    folder = Path(folder)
    parts = _stage_folders(folder)
    if not parts:
        raise UserError(
            f"{folder} holds no run: expected one of {', '.join(FILES)}, or a folder per stage "
            "with them. Give the folder that was named by run=."
        )
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


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def length_baseline(summary: Mapping[str, Any]) -> tuple[str, float] | None:
    """What length alone gets on the held-out comparisons: (longer or shorter, share right)."""
    known = [(word, number(summary.get(f"baseline_{word}"))) for word in ("longer", "shorter")]
    found = [(word, value) for word, value in known if value is not None]
    return max(found, key=lambda pair: pair[1]) if found else None


def _stage_folders(folder: Path) -> list[Path]:
    """The folders with a log: sub-folders in the order of the pipeline, else the folder itself."""
    parts = [p for p in folder.iterdir() if _is_run(p)] if folder.is_dir() else []
    if parts and not (folder / METRICS).is_file():
        place = {name: index for index, name in enumerate(ORDER)}
        return sorted(parts, key=lambda p: (place.get(p.name, len(ORDER)), p.name))
    return [folder] if _is_run(folder) else []


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).is_file() for name in FILES)


def _stages(folder: Path, *, alone: bool) -> list[Stage]:
    """The stages of one folder: one, unless its log names several."""
    entries = read_metrics(folder)
    names = list(dict.fromkeys(entry.stage for entry in entries))
    if not names or not alone:
        names = [folder.name if not alone else (names or [_method(folder)])[0]]
        entries = [Entry(e.step, names[0], e.time, e.metrics) for e in entries]
    samples, alarms = list(read_lines(folder / SAMPLES)), list(read_lines(folder / ALARMS))
    summary = _json(folder / "summary.json")
    objective = _objective(folder)
    return [
        Stage(
            name=name,
            entries=[e for e in entries if e.stage == name],
            samples=[s for s in samples if not alone or s.get("stage", names[-1]) == name],
            alarms=[a for a in alarms if not alone or (a.get("stage") or names[-1]) == name],
            summary=summary if name == names[-1] else {},
            objective=objective,
        )
        for name in names
    ]


def _method(folder: Path) -> str:
    recipe = _yaml(_text(folder / "recipe.yaml"))
    return str(recipe.get("method") or recipe.get("stage") or folder.resolve().name)


def _objective(folder: Path) -> str:
    said = _yaml(_text(folder / "recipe.yaml")).get("objective")
    name = said.get("name") if isinstance(said, Mapping) else said
    return "" if name is None else str(name)


def _state(folder: Path, parts: Sequence[Path]) -> str:
    said = _json(folder / "summary.json").get("state")
    if said:
        return str(said)
    ended = [(part / "summary.json").is_file() for part in parts]
    if (folder / "summary.json").is_file() or (all(ended) and len(parts) == len(CHAIN)):
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
        flat |= _flat(value, name + ".") if isinstance(value, Mapping) else {name: str(value)}
    return flat


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
