"""Texts that raters wrote, as judgements of pace alone: with a text nobody can agree."""

from __future__ import annotations

import numpy as np

from backflip.feedback.projects.columns import LEFT_OUT, SENIOR
from backflip.feedback.projects.project import Project
from backflip.feedback.statistics.judgements import Judgements


def written(project: Project, *, until: int | None = None) -> Judgements:
    """Who wrote when and for how long, up to an event; every text is a value that says nothing."""
    left_out = (*SENIOR, *LEFT_OUT)
    answers = [one for one in project.answers(until=until) if one.stage not in left_out]
    raters = {name: n for n, name in enumerate(dict.fromkeys(one.person for one in answers))}
    items = {number: n for n, number in enumerate(dict.fromkeys(one.item for one in answers))}
    return Judgements.of(
        [items[one.item] for one in answers],
        [raters[one.person] for one in answers],
        np.full(len(answers), np.nan),
        seconds=[np.nan if one.seconds is None else one.seconds for one in answers],
        at=[one.at for one in answers],
        rubric=[one.rubric_version for one in answers],
        repeat=[one.repeat_of is not None for one in answers],
        item_names=[str(number) for number in items],
        rater_names=list(raters),
        paired=False,
    )
