"""Counts that every transaction carries on, so that no page ever counts a million rows.

Of the project (person 0) and of each rater. Names: items, wanted, given, done, adjudicate, dropped,
answers, seconds, surplus, repeats, gold_seen, gold_right, skips, flags, shown; ``said:WORD`` for
kinds with verdicts and ``day:YYYY-MM-DD`` (UTC), answers each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TypeAlias

from sqlalchemy import Connection, TextClause, bindparam, or_, select, text

from backflip.feedback.store.schema import Tallies

Changes: TypeAlias = Counter[tuple[int, str]]
"""(person or 0, name) → by how much."""
Counts: TypeAlias = dict[str, float]
PROJECT = 0


def add(
    connection: Connection, project: int, changes: Mapping[tuple[int, str], float | int]
) -> None:
    """Add to several counts. Always in the same order, so that no two transactions can deadlock."""
    rows = [(who, name, float(value)) for (who, name), value in sorted(changes.items()) if value]
    if rows:
        given: dict[str, float | int | str] = {"project": project}
        for i, (who, name, value) in enumerate(rows):
            given |= {f"p{i}": who, f"n{i}": name, f"v{i}": value}
        connection.execute(_upsert(len(rows)), given)


@cache
def _upsert(rows: int) -> TextClause:
    """Many rows at one go, which an INSERT with a list of parameters would send one by one."""
    values = ", ".join(f"(:project, :p{i}, :n{i}, :v{i})" for i in range(rows))
    return text(
        f"INSERT INTO tallies (project_id, person_id, name, value) VALUES {values} "
        "ON CONFLICT (project_id, person_id, name) "
        "DO UPDATE SET value = tallies.value + excluded.value"
    )


def standing(connection: Connection, project: int, person: int) -> tuple[Counts, Counts]:
    """Counts that the next item depends on: a few of the project, and of a rater."""
    found: tuple[Counts, Counts] = ({}, {})
    for who, name, value in connection.execute(_STANDING, {"project": project, "person": person}):
        found[who != PROJECT][name] = value
    return found


_STANDING = select(Tallies.person_id, Tallies.name, Tallies.value).where(
    Tallies.project_id == bindparam("project"),
    or_(Tallies.person_id == PROJECT, Tallies.person_id == bindparam("person")),
    or_(*(Tallies.name == name for name in ("items", "done", "answers", "seconds", "shown"))),
)


def read(
    connection: Connection, project: int, person: int = PROJECT, names: Iterable[str] | None = None
) -> dict[str, float]:
    """A rater's counts, or the project's. Missing ones are 0: use ``.get(name, 0)``."""
    query = select(Tallies.name, Tallies.value).where(
        Tallies.project_id == project, Tallies.person_id == person
    )
    if names is not None:
        query = query.where(Tallies.name.in_(tuple(names)))
    return {row.name: row.value for row in connection.execute(query)}


def by_person(connection: Connection, project: int) -> dict[int, dict[str, float]]:
    """Every rater's counts."""
    found = dict[int, dict[str, float]]()
    query = select(Tallies.person_id, Tallies.name, Tallies.value).where(
        Tallies.project_id == project, Tallies.person_id != PROJECT
    )
    for person, name, value in connection.execute(query):
        found.setdefault(person, {})[name] = value
    return found


def day(at: float) -> str:
    """The name under which a day's answers are counted."""
    return f"day:{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def of_answer(
    person: int, *, seconds: float, at: float, word: str | None, correct: bool | None, sign: int = 1
) -> Changes:
    """Changes of the counts of a rater and a project by one answer, or by taking it back."""
    changes: Changes = Counter()
    for who in (PROJECT, person):
        changes[who, "answers"] += sign
        changes[who, "seconds"] += sign * round(seconds, 3)  # type: ignore[assignment]
        if word:
            changes[who, f"said:{word}"] += sign
        if correct is not None:
            changes[who, "gold_seen"] += sign
            changes[who, "gold_right"] += sign * correct
        changes[who, day(at)] += sign
    return changes
