"""Simulated raters answer a project through the real interface, and the statistics are put to the
test: do they find the truth that went in?
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backflip.errors import UserError
from backflip.feedback.kinds.compare import KIND as COMPARE
from backflip.feedback.kinds.registry import every_kind, kind_of
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.reading import ItemRow
from backflip.feedback.projects.store import Store
from backflip.feedback.statistics.aggregate import majority, right
from backflip.feedback.statistics.dawid_skene import dawid_skene
from backflip.feedback.statistics.gauges import Gauges, gauges
from backflip.feedback.statistics.judgements import Floats
from backflip.feedback.statistics.simulate import Population, expected_accuracy, true_gauges
from backflip.feedback.tasks.settings import ProjectSettings
from backflip.feedback.tasks.simulated_answers import Bench, write_pairs
from backflip.server.app import create_app
from backflip.server.base.settings import ServerSettings
from backflip.server.base.state import AppState

LABELS_EACH, OVERLAP = 150, 10
"""Answers of each rater, and raters of each pair, where a project is made for the simulation."""
PATIENCE = 40
"""Times that a busy server is asked again for the same answer."""

OnProgress = Callable[[int, int], None]
"""Answers given, and how many there will be, as far as one can know."""


@dataclass(frozen=True)
class Recovered:
    """Recovery of known truths by the statistics."""

    answers: int
    raters: int
    items: int
    correlation: float
    """Over raters, of the reliability that Dawid and Skene find with the true chance to be right,
    biases included; not a number for two raters and fewer."""
    without_bias: float
    """The same of the accuracy that the gauges' model finds with the chance to be right that the
    raters would have without their biases."""
    rows: tuple[tuple[str, float, float], ...]
    """For each rater: pseudonym, true chance to be right, reliability found."""
    majority_right: float
    """Share of items whose majority vote is the gold preference."""
    labels_right: float
    """The same of Dawid and Skene's labels."""
    covered: int
    """Bias gauges whose 95 % interval holds the truth."""
    gauges: int


def prepared(store: Store, name: str, raters: int, *, seed: int = 0) -> Project:
    """The project of this name, made with pairs to compare where there is none."""
    if any(project.name == name for project in store.projects(archived=True)):
        return store.project(name)
    settings = ProjectSettings(
        kind=COMPARE.name,
        title=f"{name} (simulated)",
        rubric="Simulated raters compare texts without sense, whose quality is known.",
        raters_per_item=min(OVERLAP, raters),
        gold_share=0.0,
        break_after_minutes=0,
    )
    project = store.create(name, settings, salt=f"simulated {seed}")
    pairs = write_pairs(raters * LABELS_EACH // settings.raters_per_item, seed=seed)
    project.add_items(pairs, batch="simulated")
    return project


def simulate(
    store: Store,
    project: Project,
    raters: int,
    *,
    seed: int = 0,
    progress: OnProgress | None = None,
) -> Recovered | None:
    """Let ``raters`` new members answer until nothing is left for any of them.

    Returns what the statistics recover, for comparisons; None for other kinds.

    Raises:
        UserError: a kind that cannot be simulated, or a project with nothing to answer.

    """
    kind = kind_of(project.settings.kind)
    if not kind.simulated:
        *known, last = (one.name for one in every_kind() if one.simulated)
        raise UserError(
            f"simulated raters cannot do {kind.name} tasks; they do {', '.join(known)} and {last}."
        )
    two = kind.one_word and bool(kind.sides)
    payloads = [row.payload for row in _items(project)] if two else []
    population = Population.drawn(raters, seed=seed)
    bench = Bench.of(population, payloads, seed=seed)
    people = [store.people.add(name=f"Simulated rater {k + 1}").id for k in range(raters)]
    for person in people:
        project.enrol(person)
    before = project.overview().answers
    asyncio.run(_everybody(store, project, bench, people, progress))
    given = project.overview().answers - before
    if not given:
        reason = project.why_nothing(people[0])
        raise UserError(f"the project {project.name!r} has nothing to answer: {reason}")
    if not two:
        return None
    names = [store.people.get(person).pseudonym for person in people]
    return _recovered(project, bench, names)


def _items(project: Project) -> Iterator[ItemRow]:
    """All of them, in the order of their numbers."""
    after = 0
    while page := project.items(after=after, limit=1000):
        yield from page
        after = page[-1].id


async def _everybody(
    store: Store, project: Project, bench: Bench, people: list[int], progress: OnProgress | None
) -> None:
    """All raters at once, each with a token, as programs of their own would."""
    import httpx

    app = create_app(store, replace(ServerSettings(), answers_per_minute=1e9))
    site: AppState = app.state.site
    tokens = [store.people.token(person, "simulation", ["rate"]) for person in people]
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None and done % 10 == 0:
            overview = project.overview()
            progress(done, done + max(0, overview.wanted - overview.given))

    transport = httpx.ASGITransport(app=app)
    url = f"http://testserver/api/v1/projects/{project.name}"
    try:
        async with httpx.AsyncClient(transport=transport, timeout=60) as client:
            each = [
                _Rater(client, url, token, bench, number, project.settings, count).work()
                for number, token in enumerate(tokens)
            ]
            await asyncio.gather(*each)
    finally:
        site.jobs.close()


@dataclass
class _Rater:
    """One rater at work."""

    client: Any
    url: str
    token: str
    bench: Bench
    number: int
    settings: ProjectSettings
    count: Callable[[], None]
    hours: float = 0.0

    async def work(self) -> None:
        """Answer until there is nothing more. Repeated items are asked once more as themselves."""
        asked: dict[int, int] = {}
        body = await self._call("GET", "next")
        while body["items"]:
            shown = body["items"][0]
            item = int(shown["item"])
            value, seconds = self.bench.answer(
                shown["payload"],
                self.number,
                self.settings,
                hours=self.hours % 2,
                times=asked.get(item, 0),
            )
            asked[item] = asked.get(item, 0) + 1
            self.hours += seconds / 3600
            sent = {"item": item, "value": value, "seconds": round(seconds, 1)}
            body = await self._call("POST", "answers", sent)
            self.count()

    async def _call(self, method: str, path: str, sent: Any = None) -> dict[str, Any]:
        """One request; a busy database is asked again. Raises UserError with the server's words."""
        headers = {"Authorization": f"Bearer {self.token}"}
        for wait in range(PATIENCE):
            found = await self.client.request(
                method, f"{self.url}/{path}", json=sent, headers=headers
            )
            if found.status_code < 400:
                return found.json()
            told = found.json()
            if told.get("code") == "paused":
                return {"items": []}
            if found.status_code not in (429, 503):
                raise UserError(f"the server refused a simulated answer: {told.get('detail')}")
            await asyncio.sleep(0.05 * (wait + 1))
        raise UserError("the database stayed busy; stop what else uses it, or take fewer raters.")


def _recovered(project: Project, bench: Bench, names: list[str]) -> Recovered:
    said = project.judgements()
    place = [said.rater_names.index(name) for name in names if name in said.rater_names]
    who = [number for number, name in enumerate(names) if name in said.rater_names]
    true = expected_accuracy(bench.population, bench.items)[who]
    found, fitted = dawid_skene(said), gauges(said)
    reliability = found.reliability[place]
    gold = _gold(project, bench, said.item_names)
    covered, measured = _covered(fitted, bench.population, place, who)
    return Recovered(
        answers=len(said),
        raters=len(who),
        items=len(gold),
        correlation=_correlation(true, reliability),
        without_bias=_correlation(bench.population.reliability[who], fitted.accuracy[place]),
        rows=tuple(
            (names[k], float(t), float(r)) for k, t, r in zip(who, true, reliability, strict=True)
        ),
        majority_right=float(np.nanmean(right(majority(said), gold))),
        labels_right=float(np.nanmean(right(found.labels, gold))),
        covered=covered,
        gauges=measured,
    )


def _correlation(true: Floats, found: Floats) -> float:
    """Not a number where two values or fewer, or equal ones, say nothing."""
    spread = len(true) > 2 and true.std() > 0 and found.std() > 0
    return float(np.corrcoef(true, found)[0, 1]) if spread else float("nan")


def _gold(project: Project, bench: Bench, names: Sequence[str]) -> Floats:
    """The true preference of each item, by its name in the judgements."""
    gold = {str(row.id): sign for row, sign in zip(_items(project), bench.items.gold, strict=True)}
    return np.array([gold[name] for name in names])


def _covered(
    fitted: Gauges, population: Population, place: list[int], who: list[int]
) -> tuple[int, int]:
    """(Gauges whose interval holds the truth, gauges)."""
    truth, hits = true_gauges(population, fitted.reference), list[bool]()
    for k, n in zip(place, who, strict=True):
        for feature, gauge in fitted.by_rater[k].items():
            hits.append(bool(gauge.own.low <= truth[feature][n] <= gauge.own.high))
    return sum(hits), len(hits)
