"""Training of a reward model on a project's answers, as a command that its page starts."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from backflip.errors import UserError
from backflip.feedback.exchange.mapping import mapping_of
from backflip.models.smollm2 import NAME
from backflip.server.base.auth import Place
from backflip.server.base.jobs import Job
from backflip.server.base.state import AppState

TITLE = "Reward model"
MODEL = re.compile(r"[\w./~][\w./~-]{0,300}")
"""A name or a path; never an option, never a setting of its own."""
HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""A name alone."""


def train_reward_model(site: AppState, here: Place, model: str, steps: int | None) -> Job:
    """Start training on the project's answers so far. Raises UserError where that cannot be."""
    kind = here.project.settings.kind
    if not mapping_of(kind).rewards:
        raise UserError(f"a reward model of texts cannot learn from {kind!r}.")
    if not here.project.tallies().get("answers", 0):
        raise UserError("there are no answers yet to learn from.")
    _check_model(model, places=here.may("admin"))
    run = site.folder.resolve() / "runs" / f"{here.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run.parent.mkdir(parents=True, exist_ok=True)
    return site.jobs.start(here.name, TITLE, command(here.name, model, run, steps), str(run))


def _check_model(model: str, *, places: bool) -> None:
    """Raises UserError for what is no model; ``places``: whether it may lie on our own disk."""
    if not MODEL.fullmatch(model):
        raise UserError(f"{model[:60]!r} is no name or folder of a model.")
    ours = model != NAME and Path(model).expanduser().exists()
    if not places and (ours or not HUB.fullmatch(model)):
        raise UserError(
            "only admins name folders of the server's own disk; give smollm2 or a hub name, "
            "owner/name."
        )


def command(project: str, model: str, run: Path, steps: int | None) -> list[str]:
    """``backflip train reward_model``, in the interpreter that runs this."""
    words = [sys.executable, "-m", "backflip", "train", "reward_model"]
    words += [f"data=feedback:{project}", f"model={model}", f"run={run}"]
    return words + ([f"steps={steps}"] if steps else [])


def in_words(job: Job) -> str:
    """The command as somebody would type it."""
    words = list(job.command)
    if words[1:3] == ["-m", "backflip"]:
        words = ["backflip", *words[3:]]
    return " ".join(words)
