"""The numbers of the statistics page, worked out beside the server and kept as a file.

Counts on the page are live; what takes an EM or a bootstrap is a job of its own process with a time
stamp, so that no rater waits for it: ``python -m backflip.server.work.figures PROJECT FILE``, with
the database in $BACKFLIP_FEEDBACK.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backflip.feedback.choose.learning_curves import confirmed, gain_of
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.written import written
from backflip.feedback.statistics.consensus import RESAMPLES
from backflip.feedback.statistics.figures import statistics
from backflip.feedback.statistics.judgements import Judgements

FORM = 4
"""Of the file; one of another form is worked out anew."""
VERSIONS = 6
"""Newest versions of the rubric that get figures of their own."""


def of_project(project: Project, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """All that the page draws of a project as it is now, as plain JSON."""
    event, settings = project.newest_event(), project.settings
    kind = kind_of(settings.kind)
    if not kind.alike:
        return figures(written(project), event=event, resamples=resamples)
    if kind.attributes:
        names = [attribute.name for attribute in settings.attributes]
        by_name = {
            name: figures(
                project.judgements(part=name), event=event, ratings=True, resamples=resamples
            )
            for name in names
        }
        return by_name[names[0]] | {"attributes": by_name}
    made = figures(project.judgements(), event=event, resamples=resamples)
    if not (kind.one_word and kind.paired):  # arms are compared by one verdict of two sides
        return made
    made["gain"] = gain_of(project).as_json()
    made["screen"] = {rule: share.as_json() for rule, share in confirmed(project).items()}
    for version, part in made["versions"].items():
        part["gain"] = gain_of(project, rubric=int(version)).as_json()
    return made


def figures(
    judgements: Judgements, *, event: int = 0, ratings: bool = False, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Figures of all judgements, and of those under each version of the rubric.

    ``event`` says up to where the log was read. ``ratings``: misses count by the square of their
    size, as in exports, and there is no single right answer.
    """
    whole = statistics(judgements, resamples=resamples, ratings=ratings)
    made = {"form": FORM, "event": event, "at": time.time(), **whole}
    versions = [int(version) for version in np.unique(judgements.rubric)]
    made["versions"] = (
        {
            str(version): statistics(
                judgements.where(judgements.rubric == version), resamples=resamples, ratings=ratings
            )
            for version in versions[-VERSIONS:]
        }
        if len(versions) > 1
        else {}
    )
    return made


def write(path: Path, made: Mapping[str, Any]) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(made, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


def read(path: Path) -> dict[str, Any] | None:
    """The newest figures; none before the first time, or where an older version made them."""
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return made if made.get("form") == FORM else None


def main(arguments: Sequence[str]) -> None:
    """Work out the figures of a project and write them; a dynamic overlap learns from them too."""
    from backflip.feedback.projects.store import open_store

    name, path = arguments
    os.nice(10)  # raters come first
    project = open_store().project(name)
    write(Path(path), of_project(project))
    if project.settings.overlap:
        project.learn_reliabilities()


if __name__ == "__main__":
    main(sys.argv[1:])
