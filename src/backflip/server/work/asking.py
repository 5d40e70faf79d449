"""Query selection as a job: who may estimate, the command, and its result."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backflip.errors import UserError
from backflip.server.base.jobs import Job
from backflip.server.base.state import AppState
from backflip.server.work import ask_command, training

TITLE = "What to ask next"
MODULE = "backflip.server.work.ask_command"
EVERY = "every"
"""Instead of the name of a reward model: all of the project."""
MOST = 10_000
"""Items of a round."""


def judges(site: AppState, project: str) -> dict[str, str]:
    """Reward models that were trained on the project's page: name of the run → its folder."""
    done = [job for job in site.jobs.of(project) if job.title == training.TITLE and job.run]
    runs = [Path(job.run) for job in done if job.state == "done"]
    return {run.name: str(run) for run in runs if (run / "model").is_dir()}


def voices(site: AppState, project: str) -> list[tuple[str, str]]:
    """Who may estimate what will be said, for a form: (value, words)."""
    models = judges(site, project)
    every = [(EVERY, f"All {len(models)} reward models, as an ensemble")]
    return [
        ("", "A small model of the words, from the answers so far"),
        *(every if len(models) > 1 else []),
        *((name, f"Reward model {name}") for name in models),
    ]


def voice(asked: Mapping[str, Any]) -> str:
    """The value of the form that a round was asked with."""
    models = asked.get("judges") or []
    return EVERY if len(models) > 1 else Path(models[0]).name if models else ""


def named(site: AppState, project: str, wished: str) -> list[str]:
    """The folders that a value of the form stands for. Raises UserError where there are none."""
    known = judges(site, project)
    if wished == EVERY and known:
        return list(known.values())
    if wished not in known:
        raise UserError(f"there is no reward model {wished[:60]!r}; train one under Export.")
    return [known[wished]]


def choose(site: AppState, project: str, kind: str, asked: Mapping[str, Any]) -> Job:
    """Start one round; ``asked``: fields of ``ask_command.Ask``.

    Raises UserError where that cannot be.
    """
    ask_command.check(kind, str(asked.get("strategy", "")))
    if any(job.title == TITLE and not job.over for job in site.jobs.of(project)):
        raise UserError("a round is being chosen already; wait for it.")
    # The empty word: the database that $BACKFLIP_FEEDBACK names, so that no address shows.
    command = [sys.executable, "-m", MODULE, "", project, json.dumps(dict(asked))]
    return site.jobs.start(project, TITLE, command, short=not asked.get("judges"))


def latest(site: AppState, project: str) -> dict[str, Any] | None:
    """The newest round: its job, what it was asked, and what it did; none before the first."""
    job = next((job for job in site.jobs.of(project) if job.title == TITLE), None)
    if job is None:
        return None
    lines = site.jobs.log(job).strip().splitlines() or [""]
    found: dict[str, Any] = {
        "job": job,
        "asked": _read(job.command[-1]) or {},
        "round": _read(lines[-1]) if job.state == "done" else None,
        "problem": site.without_places(lines[-1]) if job.state in ("failed", "broken off") else "",
    }
    return found | {"said": ask_command.in_words(found["asked"], found["round"])}


def _read(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text)
    except ValueError:
        return None
