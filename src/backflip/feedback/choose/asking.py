"""Rounds of query selection: waiting items and answers are read, priorities and arms written.

One call is one round: a small model (``beliefs``) learns from the judged items, the best of those
that wait get priorities between 0 and 1 and the origin "active", and the random arm is topped up.
Items to which somebody gave a priority of their own are left alone, and so is what has been begun
(but for ``uncertainty``, which weighs what has been said of an item).
Reading and learning take seconds to minutes, so this is a job, not a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import expit
from sqlalchemy import func, select

from backflip.errors import UserError
from backflip.feedback.choose import prescreen, queries
from backflip.feedback.choose.beliefs import fit_linear, informative
from backflip.feedback.choose.embedding import Embed, Payloads, by_words, texts_of
from backflip.feedback.choose.learning_curves import Known, known, rows_of
from backflip.feedback.choose.prescreen import Screen
from backflip.feedback.choose.queries import ACTIVE, RANDOM
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.reading import ItemRow
from backflip.feedback.statistics.judgements import Floats, Ints
from backflip.feedback.statistics.simulate import uniform
from backflip.feedback.store.queues import WORK
from backflip.feedback.store.schema import Items

Strategy: TypeAlias = Literal[
    "random", "disagreement", "information", "uncertainty", "best_against_worst", "diversity"
]
Judge: TypeAlias = Callable[[Payloads], Floats]
"""Items → [M, N]: log odds that a is better, by each of M models."""
FEWEST_JUDGED = 30
"""Judged items below which a model knows nothing, and chance chooses."""
DRAWS = 32
"""Draws of the posterior that stand for an ensemble."""


@dataclass(frozen=True)
class Ask:
    """Options of query selection."""

    strategy: Strategy = "information"
    count: int = 200
    """Items of one round."""
    candidates: int = 10_000
    """Waiting items that are looked at, drawn by chance where there are more."""
    dimensions: int = 64
    """Of the texts' vectors."""
    noise: float = 0.1
    """Share of answers thought to be coin tosses (Christiano et al., 2017)."""
    reliability: float = 0.8
    """P(a vote is right), where begun items are weighed by their votes."""
    screen: Screen | None = None
    """Rules for items to leave out beforehand, in both arms; none: nothing is left out."""
    seed: int = 0


@dataclass(frozen=True)
class Round:
    """Result of one round of query selection."""

    strategy: str
    """The one that was used: random while too little has been judged."""
    judged: int
    """Items that the model learnt from."""
    waiting: int
    candidates: int
    active: int
    """Items that got a priority."""
    random: int
    """Items that joined the random arm."""
    released: int
    """Items that an earlier round had chosen and that wait with the others again."""
    screened: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """For each rule how many items it met, and how many of them are asked all the same."""


def ask_next(
    project: Project,
    ask: Ask | None = None,
    *,
    embed: Embed | None = None,
    judge: Judge | None = None,
    by: int | None = None,
) -> Round:
    """Choose what the project asks next. Raises UserError for kinds that need embed or judge.

    ``judge`` is a reward model or an ensemble of them; without one a linear model of ``embed``
    (without that: of the texts' words) learns from the project's own judgements.
    """
    ask = ask or Ask()
    pool, told = _pool(project, ask), known(project)
    if not (judge or ask.strategy == "diversity" or len(told.names) >= FEWEST_JUDGED):
        ask = replace(ask, strategy="random")
    drawn, by_chance = _draw(pool, project, ask)
    rows = rows_of(project, np.concatenate([drawn, by_chance]))
    chance = set(by_chance.tolist())
    heard = _heard(rows if ask.screen else [r for r in rows if r.id not in chance], ask, judge)
    rows, screened = _screened(project, rows, ask, heard, by)
    arm = [row.id for row in rows if row.id in chance]
    rows = [row for row in rows if row.id not in chance]
    chosen = [rows[place].id for place in _order(project, ask, rows, told, embed, heard)]
    stale = sorted(set(pool.active) - set(chosen))
    project.prioritise(dict.fromkeys(arm, 0.0), origin=RANDOM, by=by)
    project.prioritise(dict.fromkeys(stale, 0.0), origin="given", by=by)
    ranks = {item: 1 - rank / len(chosen) for rank, item in enumerate(chosen)}
    project.prioritise(ranks, origin=ACTIVE, by=by)
    return Round(
        strategy=ask.strategy,
        judged=len(told.names),
        waiting=len(pool.waiting),
        candidates=len(drawn),
        active=len(chosen),
        random=len(arm),
        released=len(stale),
        screened=screened,
    )


@dataclass(frozen=True)
class Pool:
    """Items that wait: in the main arm without a priority of their own, and in the random arm."""

    waiting: Ints
    """Numbers of items."""
    active: list[int]
    """Those among them that an earlier round chose."""
    random: int
    """Items that wait in the random arm."""


def _pool(project: Project, ask: Ask) -> Pool:
    """``uncertainty`` looks at begun items too: it weighs what has been said of them."""
    begun = () if ask.strategy == "uncertainty" else (Items.taken == 0,)
    mine = (Items.project_id == project.id, Items.queue == WORK, *begun)
    free = select(Items.id).where(*mine, (Items.priority == 0) | (Items.origin == ACTIVE))
    with project.ref.database.read() as connection:
        waiting = np.fromiter(connection.scalars(free.order_by(Items.id)), np.int64)
        active = list(connection.scalars(free.where(Items.origin == ACTIVE)))
        random = connection.scalar(
            select(func.count()).where(Items.project_id == project.id, Items.queue == RANDOM)
        )
    return Pool(waiting, active, random or 0)


def _draw(pool: Pool, project: Project, ask: Ask) -> tuple[Ints, Ints]:
    """Candidates of the active arm, and items that join the random one until a round of them waits.

    An item belongs to the random arm by a number of its own, whatever rounds there were, so that
    the arm is a sample of all items, not of what the active arm left over.
    """
    draw, share = uniform(project.id, pool.waiting), project.settings.random_share
    free = pool.waiting[draw >= share]
    rng = np.random.default_rng([ask.seed, project.newest_event()])
    drawn = np.sort(rng.choice(free, min(ask.candidates, len(free)), replace=False))
    members = np.flatnonzero(draw < share)
    missing = max(0, ask.count - pool.random)
    return drawn, pool.waiting[members[np.argsort(draw[members], kind="stable")][:missing]]


def _asked(project: Project, most: int) -> Ints:
    """The items that were asked before, the newest."""
    query = select(Items.id).where(Items.project_id == project.id, Items.given > 0)
    with project.ref.database.read() as connection:
        found = connection.scalars(query.order_by(Items.id.desc()).limit(most))
        return np.fromiter(found, np.int64)


Heard: TypeAlias = Mapping[int, Floats]
"""Log odds that a is better, of M models: number of the item → [M]."""


def _heard(rows: Sequence[ItemRow], ask: Ask, judge: Judge | None) -> Heard | None:
    """Log odds by the judge, each item once; None where there is no judge."""
    needed = ask.strategy not in ("random", "diversity") or (ask.screen and ask.screen.sure)
    if judge is None or not needed or not rows:
        return None
    odds = judge([row.payload for row in rows])
    return {row.id: odds[:, place] for place, row in enumerate(rows)}


def _odds(heard: Heard, rows: Sequence[ItemRow]) -> Floats:
    """[M, N]"""
    return np.stack([heard[row.id] for row in rows], axis=1)


def _screened(
    project: Project, rows: list[ItemRow], ask: Ask, heard: Heard | None, by: int | None
) -> tuple[list[ItemRow], dict[str, tuple[int, int]]]:
    """Drop what the rules drop, in the project too, with the rule as the reason in its log."""
    if ask.screen is None or not rows:
        return rows, {}
    texts = [texts_of(row.payload) for row in rows]
    if any(len(both) != 2 for both in texts):
        raise UserError("only pairs of answers can be screened beforehand; leave screen out.")
    found = prescreen.prescreen(
        [a for a, _ in texts],
        [b for _, b in texts],
        keys=np.array([row.id for row in rows], np.int64),
        judge=None if heard is None else expit(_odds(heard, rows)),
        screen=ask.screen,
    )
    for rule in found.counts():
        met = [i for i, name in enumerate(found.rule) if name == rule]
        dropped = [rows[i].id for i in met if not found.back[i]]
        back = [rows[i].id for i in met if found.back[i]]
        project.drop(dropped, reason=prescreen.ORIGIN + rule, by=by)
        project.prioritise(dict.fromkeys(back, 1.0), origin=prescreen.ORIGIN + rule, by=by)
    left = [row for row, rule in zip(rows, found.rule, strict=True) if not rule]
    return left, found.counts()


def _order(
    project: Project,
    ask: Ask,
    rows: list[ItemRow],
    told: Known,
    embed: Embed | None,
    heard: Heard | None,
) -> Ints:
    """Places of the rows to ask, the best first."""
    payloads = [row.payload for row in rows]
    if ask.strategy == "random" or not rows:
        return np.random.default_rng(ask.seed).permutation(len(rows))[: ask.count]
    words = {"dimensions": ask.dimensions, "seed": ask.seed}
    if ask.strategy == "diversity":
        before = [row.payload for row in rows_of(project, _asked(project, ask.candidates))]
        embed = embed or by_words([*before, *payloads], **words)
        odd = all(len(texts_of(payload)) == 2 for payload in payloads)
        return queries.k_centre(embed(payloads), ask.count, asked=embed(before), odd=odd)
    if heard is not None:
        return queries.top(_score(ask, _odds(heard, rows), rows, told), ask.count)
    if embed is None and not kind_of(project.settings.kind).two_texts:
        raise UserError(
            f"{ask.strategy} has no model for items of the kind {project.settings.kind!r}: give "
            "embed (vectors) or judge (log odds), or choose random or diversity."
        )
    learnt = [row.payload for row in rows_of(project, told.names)]
    embed = embed or by_words([*learnt, *payloads], **words)
    belief, x = fit_linear(embed(learnt), told.share, told.votes), embed(payloads)
    if ask.strategy == "information":
        return informative(belief, x, ask.count, noise=ask.noise)
    logits = belief.draws(x, DRAWS, seed=ask.seed)
    return queries.spread(_score(ask, logits, rows, told), x, ask.count)


def _score(ask: Ask, logits: Floats, rows: list[ItemRow], told: Known) -> Floats:
    """[N] What the strategy thinks of each row, given members' log odds [M, N]."""
    match ask.strategy:
        case "information":
            return queries.information(logits, noise=ask.noise)
        case "uncertainty":
            sure = np.log(ask.reliability / (1 - ask.reliability))
            ahead = dict(zip(told.names.tolist(), told.ahead, strict=True))
            said = [sure * ahead.get(row.id, 0.0) for row in rows]
            return queries.uncertainty(logits, np.array(said))
        case "best_against_worst":
            return queries.best_against_worst(logits)
        case _:
            return queries.disagreement(logits)
