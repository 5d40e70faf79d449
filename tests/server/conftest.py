from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for package in ("fastapi", "sqlalchemy", "nh3"):
    pytest.importorskip(package, reason="the feedback server's packages are an extra")

from tests.server.chrome import chromium  # noqa: E402
from tests.server.echo import echoing  # noqa: E402
from tests.server.hall import Hall  # noqa: E402
from tests.server.served import Browser, Served, running, served  # noqa: E402


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """A server that nobody has visited."""
    made = served(tmp_path)
    yield made
    made.site.jobs.close()
    made.store.close()


@pytest.fixture
def lead(server: Served) -> Browser:
    """An admin's browser, on a page with a form."""
    browser = server.as_person(server.person("Ada", admin=True))
    browser.get("/projects/new")
    return browser


@pytest.fixture
def address() -> Iterator[str]:
    """Where policies answer that say the last message again."""
    with echoing() as place:
        yield place


@pytest.fixture
def alan(server: Served) -> tuple[Any, int, str]:
    """A project with groups, and a nurse who rates in it: project, person, address of his page."""
    groups = {"expertise": ["nurse", "doctor"], "language": ["de", "en"]}
    project, rater = server.project(groups=groups), server.person("Alan")
    project.enrol(rater, groups={"expertise": "nurse"})
    return project, rater, f"/projects/tone/people/{server.store.people.get(rater).pseudonym}"


@pytest.fixture(scope="module")
def all_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with echoing() as address:
        policies = (("loud", f"{address}#loud"),)
        made = served(tmp_path_factory.mktemp("hall"), endpoints=policies)
        with running(made) as base, chromium() as browser:
            yield Hall(made, base, browser)
        made.site.jobs.close()
        made.store.close()


@pytest.fixture
def hall(all_day: Hall) -> Iterator[Hall]:
    yield all_day
    for context in all_day.browser.contexts:
        context.close()
    assert all_day.faults == []
