"""Projects with answers in them, given through the store as raters give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store, open_store
from backflip.feedback.tasks.display import in_displayed_order

Said = Callable[[int, dict[str, Any]], Mapping[str, Any] | None]
"""(which rater, the item's payload in its own order) → the answer in the item's own order; none:
skip."""


def opened(folder: Path, clock: Callable[[], float] | None = None) -> Store:
    """A store in a folder of the test's own."""
    return open_store(folder / "feedback.sqlite", **({"clock": clock} if clock else {}))


def project_of(
    store: Store, kind: str, items: list[dict[str, Any]], *, raters: int = 3, **settings: Any
) -> tuple[Project, list[int]]:
    """A project whose items everybody answers, and its raters."""
    name = settings.pop("name", "tone")
    given = {"kind": kind, "gold_share": 0.0, "raters_per_item": raters, **settings}
    project = store.create(name, given, salt="the same in every run")
    people = [store.people.add().id for _ in range(raters)]
    for person in people:
        project.enrol(person)
    project.add_items(items)
    return project, people


def answer_all(project: Project, people: list[int], said: Said, *, queue: str = "work") -> int:
    """Let everybody answer until nothing is left for them; how many answers."""
    count = 0
    for number, person in enumerate(people):
        for shown in _shown(project, person, queue):
            payload = project.item(shown.item_id).payload
            value = said(number, payload)
            if value is None:
                project.skip(person, shown.item_id)
                continue
            given = in_displayed_order(payload["kind"], value, shown.order)
            project.answer(person, shown.item_id, given, seconds=5.0, queue=queue)
            count += 1
    return count


def _shown(project: Project, person: int, queue: str) -> Iterator[Any]:
    while shown := project.next(person, queue=queue):
        yield shown[0]


def ask(text: str) -> list[dict[str, str]]:
    """A prompt of one question."""
    return [{"role": "user", "content": text}]


def pair(number: int) -> dict[str, Any]:
    """Two answers, of which the one that says "good" is better."""
    texts = [f"good answer {number}", f"bad answer to question {number}"]
    if number % 2:
        texts.reverse()
    sources = ["model-x", "model-y"]
    answers = [{"text": t, "source": s} for t, s in zip(texts, sources, strict=True)]
    return {"prompt": ask(f"question {number}?"), "answers": answers}


def better(payload: Mapping[str, Any]) -> str:
    """Which side of such a pair is better."""
    return "a" if payload["answers"][0]["text"].startswith("good") else "b"
