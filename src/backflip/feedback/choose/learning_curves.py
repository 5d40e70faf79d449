"""Learning curves of the arms, and how often the screen was right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from backflip.feedback.choose import experiment_arms, prescreen
from backflip.feedback.choose.embedding import Embed, by_words
from backflip.feedback.choose.queries import ACTIVE, RANDOM
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.reading import ItemRow
from backflip.feedback.statistics.judgements import Floats, Ints, Judgements
from backflip.feedback.store.schema import Items
from backflip.functional.statistics import Interval

LEARNT = 20_000
"""Judged items that are read at most, the newest."""
DIMENSIONS = 64
PAGE = 500


@dataclass(frozen=True)
class Known:
    """I judged items, in the order in which they were first judged."""

    names: Ints
    """[I] Their numbers in the project."""
    share: Floats
    """[I] Of their votes, those for a; a tie is half."""
    votes: Floats
    """[I] How many."""

    @property
    def ahead(self) -> Floats:
        """[I] Votes for a minus votes for b."""
        return (2 * self.share - 1) * self.votes

    def where(self, rows: Ints) -> Known:
        return Known(self.names[rows], self.share[rows], self.votes[rows])


def known(project: Project, *, rubric: int | None = None) -> Known:
    """Votes on items that have two sides, repeats left out; nothing for other kinds.

    ``rubric``: under this version of it alone.
    """
    said = project.judgements().said()
    said = said if rubric is None else said.where(said.rubric == rubric)
    if not said.paired or not len(said) or not kind_of(project.settings.kind).one_word:
        return Known(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    first = np.full(said.items, np.inf)
    np.minimum.at(first, said.item, said.at)
    judged = np.argsort(first, kind="stable")[: np.isfinite(first).sum()][-LEARNT:]
    votes = np.bincount(said.item, minlength=said.items)[judged].astype(np.float64)
    sign = np.bincount(said.item, np.sign(said.value), minlength=said.items)[judged]
    return Known(_numbers(said)[judged], (1 + sign / votes) / 2, votes)


def _numbers(said: Judgements) -> Ints:
    return np.array([int(name) for name in said.item_names], np.int64)


def rows_of(project: Project, ids: Ints) -> list[ItemRow]:
    """Items by number, in the order of these numbers, a page at a time."""
    wanted, found = [int(item) for item in ids], dict[int, ItemRow]()
    for start in range(0, len(wanted), PAGE):
        part = wanted[start : start + PAGE]
        found |= {row.id: row for row in project.items(ids=part, limit=len(part))}
    return [found[item] for item in wanted]


def gain_of(
    project: Project, *, embed: Embed | None = None, rubric: int | None = None, seed: int = 0
) -> experiment_arms.Gain:
    """Gain of the active arm over the random arm so far. Takes a minute: a job, not a page.

    ``rubric``: by what was said under this version of it alone.
    """
    told = known(project, rubric=rubric)
    arm = _origins(project)
    mine = np.flatnonzero([arm.get(int(item)) in (ACTIVE, RANDOM) for item in told.names])
    if not len(mine):
        return experiment_arms.nothing("Neither arm has a judged pair yet.")
    told = told.where(mine)
    payloads = [row.payload for row in rows_of(project, told.names)]
    embed = embed or by_words(payloads, dimensions=DIMENSIONS, seed=seed)
    active = np.array([arm[int(item)] == ACTIVE for item in told.names], np.bool_)
    return experiment_arms.gain(
        experiment_arms.Told(embed(payloads), told.share, told.votes, active), seed=seed
    )


def _origins(project: Project) -> dict[int, str]:
    query = select(Items.id, Items.origin).where(
        Items.project_id == project.id, Items.origin.in_((ACTIVE, RANDOM)), Items.given > 0
    )
    with project.ref.database.read() as connection:
        return {row.id: row.origin for row in connection.execute(query)}


def confirmed(project: Project) -> dict[str, Interval]:
    """How often people agreed with each rule of the screen, on what was sampled back."""
    query = select(Items.id, Items.origin).where(
        Items.project_id == project.id,
        Items.origin.startswith(prescreen.ORIGIN),
        Items.given > 0,
    )
    with project.ref.database.read() as connection:
        rows = connection.execute(query).all()
    rule = {row.id: row.origin.removeprefix(prescreen.ORIGIN) for row in rows}
    if not rule:
        return {}
    kind = project.settings.kind
    said = project.answers(items=list(rule))
    return prescreen.confirmed(
        (rule[one.item], kind_of(kind).word(one.value) or "") for one in said
    )
