"""Stores of both kinds, a clock to turn, and a project with raters in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store, open_store
from backflip.feedback.rating.allocation import Assignment
from backflip.feedback.tasks.display import in_displayed_order
from tests.feedback import postgres
from tests.feedback.answered import opened
from tests.feedback.kinds import PROJECTS
from tests.feedback.postgres import Cluster
from tests.parts import need

TODAY = 1_800_000_000.0


@dataclass
class Turned:
    """A clock that moves only when it is told to."""

    now: float = TODAY

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Turned:
    return Turned()


@pytest.fixture(scope="session")
def pg() -> Iterator[Cluster]:
    """A PostgreSQL server of the tests' own; skipped, with the reason, where there can be none."""
    need(postgres.missing())
    with postgres.cluster() as cluster:
        open_store(cluster.create()).close()  # test0: migrated, and the template of the others
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is not there yet, or is empty, of either kind."""
    if request.param == "sqlite":
        return str(tmp_path / "feedback.sqlite")
    return request.getfixturevalue("pg").create(template="test0")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table."""
    if request.param == "sqlite":
        return str(tmp_path / "empty.sqlite")
    return request.getfixturevalue("pg").create()


@pytest.fixture
def store(url: str, clock: Turned) -> Iterator[Store]:
    opened = open_store(url, clock=clock)
    yield opened
    opened.close()


Make = Callable[..., tuple[Project, list[int]]]


@pytest.fixture
def make(store: Store) -> Make:
    """A project of so many raters, each a member; keywords are settings."""

    def made(raters: int = 2, *, name: str = "tone", **settings: Any) -> tuple[Project, list[int]]:
        given = {"kind": "compare", "gold_share": 0.0, **settings}
        project = store.create(name, given, salt="the same in every run")
        people = [store.people.add().id for _ in range(raters)]
        for person in people:
            project.enrol(person)
        return project, people

    return made


def as_shown(shown: Assignment, value: dict[str, Any]) -> dict[str, Any]:
    """An answer in the item's own order, as the rater of this showing gives it."""
    return in_displayed_order(shown.kind, value, shown.order)


def pair(number: int, *, a: str = "", b: str = "") -> dict[str, Any]:
    """A pair of answers like no other."""
    return {
        "prompt": [{"role": "user", "content": f"question {number}"}],
        "answers": [
            {"text": a or f"answer a to {number}", "source": "model-x"},
            {"text": b or f"answer b to {number}, which is longer", "source": "model-y"},
        ],
    }


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [pair(number) for number in range(start, start + count)]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Store]:
    """A small store of the test's own, with the real clock."""
    made = opened(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Project]]:
    """Projects of every kind, made once for the tests that only look."""
    made: dict[str, Project] = {}
    stores: list[Store] = []

    def project(kind: str) -> Project:
        if kind not in made:
            stores.append(opened(tmp_path_factory.mktemp(kind)))
            made[kind] = PROJECTS[kind](stores[-1])
        return made[kind]

    yield project
    for store in stores:
        store.close()
