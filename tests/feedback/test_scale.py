"""What a request costs does not grow with the project: counted in steps of SQLite, not seconds."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from backflip.feedback.projects.store import open_store
from backflip.feedback.rating.items import NewItem
from tests.feedback.conftest import pair, pairs

A = {"choice": "a", "strength": 1}


class Counted:
    """A store that counts the steps of SQLite's virtual machine."""

    def __init__(self, path):
        self.store = open_store(path)
        self.steps = 0
        self.store.close()
        event.listen(self.store.database.engine, "connect", self._watch)

    def _watch(self, raw, _record):
        raw.set_progress_handler(self._step, 1)

    def _step(self):
        self.steps += 1
        return 0

    def cost(self, act):
        before = self.steps
        act()
        return self.steps - before


def costs(tmp_path, items):
    """Steps of an answer with its next item, of a new rater's first item, and of the overview."""
    counted = Counted(tmp_path / f"{items}.sqlite")
    settings = {"kind": "compare", "gold_share": 0.0, "raters_per_item": 2}
    project = counted.store.create("tone", settings)
    people = [counted.store.people.add().id for _ in range(3)]
    for person in people:
        project.enrol(person)
    project.add_items(NewItem(pair(number), priority=number % 7) for number in range(items))
    for person in people[:2]:
        for shown in (project.next(person)[0] for _ in range(8)):
            project.answer(person, shown.item_id, A)
    (shown,) = project.next(people[0])
    found = [
        counted.cost(lambda: project.answer(people[0], shown.item_id, A)),
        counted.cost(lambda: project.next(people[2])),
        counted.cost(project.overview),
        counted.cost(lambda: project.tallies(people[0])),
    ]
    counted.store.close()
    return found


def test_a_project_ten_times_as_large_costs_no_more_steps(tmp_path):
    small, large = costs(tmp_path, 400), costs(tmp_path, 4000)
    for little, much in zip(small, large, strict=True):
        assert much < 1.5 * little


def test_no_request_of_a_rater_scans_or_sorts_a_table(tmp_path):
    """Every statement that an answer and its next item send to SQLite, explained."""
    store = open_store(tmp_path / "feedback.sqlite")
    project = store.create("tone", {"kind": "compare", "repeat_share": 0.4, "repeat_gap": 2})
    person = store.people.add().id
    project.enrol(person)
    project.add_items(pairs(40))
    sent = []
    event.listen(
        store.database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, given, _context, many: sent.append(
            (statement, given[0] if many else given)
        ),
    )
    for _ in range(20):
        (shown,) = project.next(person)
        project.answer(person, shown.item_id, A, client_key=str(len(sent)))
    asked = dict(one for one in sent if one[0].startswith(("SELECT", "UPDATE")))
    with store.database.read() as connection:
        plans = {
            statement: [
                row.detail
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
            ]
            for statement, given in asked.items()
        }
    assert any(
        "items_waiting (project_id=? AND queue=? AND route=?)" in str(p) for p in plans.values()
    )
    for statement, plan in plans.items():
        small = "leases" in statement  # a rater holds twenty at most, and all raters some hundred
        assert not any("SCAN items" in step or "SCAN answers" in step for step in plan), statement
        assert small or not any("TEMP B-TREE" in step for step in plan), (statement, plan)
    store.close()


@pytest.mark.slow
def test_a_hundred_thousand_items_go_in_and_the_next_costs_what_it_does_among_a_thousand(tmp_path):
    small, large = costs(tmp_path, 1000), costs(tmp_path, 100_000)
    for little, much in zip(small, large, strict=True):
        assert much < 1.5 * little
