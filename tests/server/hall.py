"""A server and a browser for all tests of a file; each has a project and a rater of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from backflip.feedback.projects.project import Project
from backflip.server.pages.account import door
from tests.server.chrome import visitor
from tests.server.served import Served


@dataclass
class Hall:
    """A server, its address, and a browser."""

    made: Served
    base: str
    browser: Any
    faults: list[str] = field(default_factory=list[str])
    count: int = 0

    def project(self, items: list[dict[str, Any]], **settings: Any) -> Project:
        self.count += 1
        given = {"raters_per_item": 1, "scale": 2, **settings}
        project = self.made.project(f"hall-{self.count}", items=0, **given)
        project.add_items(items)
        return project

    def sit(self, project: Project) -> Any:
        """The page of somebody new, with the first item on it."""
        person = self.made.person(f"Ada{self.count}")
        project.enrol(person)
        page = visitor(self.browser, self.faults)
        page.goto(f"{self.base}{door(self.made.site, person)}?next=/projects/{project.name}/rate")
        page.locator("#deck > *").first.wait_for()
        return page


def ask(text: str = "Why?") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def saved(page: Any) -> None:
    page.locator("#status[data-state=saved]").wait_for()


def values(project: Project, count: int | None = None) -> list[dict[str, Any]]:
    """Answers in the log, once there are ``count`` of them: a page may still show that an earlier
    answer was saved while the next is on its way.
    """
    until = time.monotonic() + 15
    while True:
        found = [row.value for row in project.answers()]
        if count is None or len(found) == count or time.monotonic() > until:
            return found
        time.sleep(0.05)
