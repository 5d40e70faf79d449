"""What to ask next, as a job: the ways to choose that a kind has, the command, what it came to."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from backflip.collect.jobs import Job
from backflip.collect.site import Site
from backflip.data.errors import UserError
from backflip.feedback.asking import FEWEST_JUDGED

TITLE = "What to ask next"
MODULE = "backflip.feedback.asking"
STRATEGIES = {
    "random": ("By chance", "No model; what every other way is measured against."),
    "disagreement": ("Ensemble disagreement", "Where draws of a model’s posterior part most."),
    "information": ("Information gain", "Where an answer should tell the model most."),
    "uncertainty": ("Uncertain posterior", "Where the label is least sure, begun items included."),
    "best_against_worst": ("Best against worst", "Where one answer seems far better: least noise."),
    "diversity": ("Diversity", "As unlike one another as can be; needs no answers yet."),
}  # fmt: skip
"""Ways to choose: their names, and what each looks for."""
READ = ("rank", "rate", "thumbs", "spans", "steps", "principles")
"""Kinds whose texts can be told apart, but of which no model of pairs learns."""
MOST = 10_000


def offered(kind: str) -> list[str]:
    """The ways to choose that items of a kind have."""
    if kind == "compare":
        return list(STRATEGIES)
    return ["random", "diversity"] if kind in READ else ["random"]


def choose(site: Site, project: str, kind: str, asked: Mapping[str, Any]) -> Job:
    """Start one round. ``asked``: fields of ``asking.Ask``. Raises UserError for what cannot be."""
    strategy = str(asked.get("strategy", ""))
    if strategy not in offered(kind):
        known = ", ".join(offered(kind))
        raise UserError(
            f"items of the kind {kind!r} are not chosen by {strategy[:30]!r}; use {known}."
        )
    if any(job.title == TITLE and not job.over for job in site.jobs.of(project)):
        raise UserError("a round is being chosen already; wait for it.")
    # The empty word: the database that $BACKFLIP_FEEDBACK names, so that no address shows.
    command = [sys.executable, "-m", MODULE, "", project, json.dumps(dict(asked))]
    return site.jobs.start(project, TITLE, command, short=True)


def latest(site: Site, project: str) -> dict[str, Any] | None:
    """The newest round: its job, what it was asked, and what it did; none before the first."""
    job = next((job for job in site.jobs.of(project) if job.title == TITLE), None)
    if job is None:
        return None
    lines = site.jobs.log(job).strip().splitlines() or [""]
    found: dict[str, Any] = {
        "job": job,
        "asked": _read(job.command[-1]) or {},
        "round": _read(lines[-1]) if job.state == "done" else None,
        "problem": lines[-1] if job.state in ("failed", "broken off") else "",
    }
    return found | {"said": _in_words(found["asked"], found["round"])}


def _read(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _in_words(asked: Mapping[str, Any], made: Mapping[str, Any] | None) -> list[str]:
    """What a round did, in sentences."""
    if made is None:
        return []
    used, wished = str(made["strategy"]), str(asked.get("strategy", ""))
    name = STRATEGIES.get(used, (used, ""))[0]
    said = [
        f"{name}: {made['active']:,} items come first, of {made['candidates']:,} that were looked "
        f"at; {made['random']:,} more joined the random arm."
    ]
    if used != wished:
        said.append(
            f"Only {made['judged']:,} items have been judged; a model needs {FEWEST_JUDGED}, so "
            "chance chose."
        )
    elif used not in ("random", "diversity"):
        said.append(f"The model learnt from {made['judged']:,} judged items.")
    if made["released"]:
        said.append(f"{made['released']:,} items of the round before wait with the others again.")
    return said
