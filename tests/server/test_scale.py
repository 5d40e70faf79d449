"""What the lead's pages cost does not grow with the project: counted in steps of SQLite."""

from __future__ import annotations

from pathlib import Path

from backflip.feedback.tasks.display import in_displayed_order
from backflip.server.app import create_app
from backflip.server.base.settings import ServerSettings
from tests.feedback.test_scale import Counted
from tests.server.served import Served
from tests.server.test_results import wait_for_jobs

PAGES = ("", "/statistics", "/items", "/people", "/adjudicate", "/export", "/log", "/rate")


def costs(folder: Path, items: int) -> dict[str, int]:
    """Steps of each page, of a project with some answers and its figures worked out."""
    counted = Counted(folder / f"{items}.sqlite")
    app = create_app(counted.store, ServerSettings(folder=folder / f"files-{items}"))
    made = Served(app, counted.store, folder)
    project = made.project(items=items, raters_per_item=2)
    for name in ("Ada", "Bob"):
        person = made.person(name, admin=True)
        project.enrol(person, role="admin")
        for turn in range(20):
            (shown,) = project.next(person)
            first = in_displayed_order("compare", {"choice": "a", "strength": 1}, shown.order)
            other = in_displayed_order("compare", {"choice": "b", "strength": 1}, shown.order)
            disputed = name == "Bob" and turn % 2
            project.answer(person, shown.item_id, other if disputed else first, seconds=5.0)
    lead = made.as_person(person)
    lead.get("/projects/tone/statistics")
    wait_for_jobs(made)
    assert "Krippendorff" in lead.get("/projects/tone/statistics").text
    found = {
        page: counted.cost(lambda page=page: lead.get(f"/projects/tone{page}")) for page in PAGES
    }
    made.site.jobs.close()
    counted.store.close()
    return found


def test_no_page_of_the_lead_costs_more_on_a_project_ten_times_as_large(tmp_path: Path):
    small, large = costs(tmp_path, 300), costs(tmp_path, 3000)
    for page, steps in small.items():
        assert steps > 0
        assert large[page] < 1.5 * steps, page
