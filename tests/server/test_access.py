"""Every page of a project on a phone: it fits, its controls have names, its pictures have words."""

from __future__ import annotations

from typing import Any

import pytest

from backflip.server.pages.account import door
from backflip.server.work import figures
from tests.server.chrome import chromium
from tests.server.served import Served, running

PAGES = (
    "", "/items", "/people", "/people/{rater}", "/statistics", "/statistics?every=yes",
    "/adjudicate", "/flagged", "/items/1", "/screened", "/export", "/log", "/settings",
)  # fmt: skip
FAULTS = """() => {
  const seen = (node) => node.offsetParent !== null && node.checkVisibility();  // no closed fold
  const all = (query) => [...document.querySelectorAll(query)].filter(seen);
  const named = (node) => node.ariaLabel || node.getAttribute('aria-labelledby')
    || node.innerText?.trim() || node.labels?.length || node.querySelector?.('svg, .sr');
  const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
  const ours = all('h1, h2, h3').filter((node) => !node.closest('.said'));
  const levels = ours.map((node) => Number(node.tagName[1]));
  const faults = {
    wide: document.documentElement.scrollWidth - innerWidth > 0 ? [innerWidth] : [],
    nameless: all('button, a, input, textarea, select, summary').filter((n) => !named(n)),
    small: all('button, select, input:not([type=checkbox], [type=radio]), summary')
      .filter((n) => n.offsetHeight < 24 || n.offsetWidth < 24),
    twice: ids.filter((id, place) => ids.indexOf(id) !== place),
    pictures: [...document.querySelectorAll('svg')].filter((n) => !n.ariaHidden && !n.ariaLabel),
    headings: levels.filter((level, place) => level - (levels[place - 1] ?? 0) > 1),
    first: levels.filter((level) => level === 1).length === 1 ? [] : levels,
    points: all('[aria-describedby]').filter((n) =>
      n.getAttribute('aria-describedby').trim().split(' ').some((id) => !ids.includes(id))),
  };
  return Object.entries(faults).filter(([, found]) => found.length).map(([name, found]) =>
    `${name}: ${found.map((n) => n.outerHTML?.slice(0, 120) ?? n).slice(0, 3).join(' | ')}`);
}"""


@pytest.fixture
def full(server: Served) -> tuple[Any, str]:
    """A project with all that the pages show: answers, groups, flags, pictures; a rater's name."""
    project = server.project(items=40, raters_per_item=2, groups={"language": ["de", "en"]})
    people = [server.person(name) for name in ("Alan", "Grace")]
    for number, person in enumerate(people):
        project.enrol(person, groups={"language": ("de", "en")[number]})
        for turn in range(38):
            shown = project.next(person)[0]
            choice = "ab"[(shown.item_id + (turn % 3 == number)) % 2]
            project.answer(person, shown.item_id, {"choice": choice}, seconds=5.0)
    project.flag(people[0], project.next(people[0])[0].item_id, reason="a name")
    project.configure({**project.settings.model_dump(mode="json"), "rubric": "# New"})
    project.drop([1], reason="screened: near-identical")
    figures.write(server.site.figures("tone"), figures.of_project(project, resamples=50))
    return project, server.store.people.get(people[1]).pseudonym


def test_pages_fit_a_phone_and_can_be_read_aloud(server: Served, full: tuple[Any, str]):
    lead = server.person("Ada", admin=True)
    with running(server) as base, chromium() as browser:
        context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
        page = context.new_page()
        page.goto(base + door(server.site, lead))
        found = {"/": page.evaluate(FAULTS)}
        for path in PAGES:
            page.goto(f"{base}/projects/tone{path.format(rater=full[1])}")
            found[path] = page.evaluate(FAULTS)
        assert page.locator("h1").count() == 1
        page.goto(f"{base}/projects/tone/statistics?every=yes")
        assert page.get_by_text("Over a session").is_visible()  # the charts were there to look at
    assert {path: faults for path, faults in found.items() if faults} == {}


def test_every_chart_has_its_numbers_as_a_table_that_keys_open(
    server: Served, full: tuple[Any, str]
):
    del full
    lead = server.person("Ada", admin=True)
    with running(server) as base, chromium() as browser:
        page = browser.new_page()
        page.goto(base + door(server.site, lead))
        page.goto(f"{base}/projects/tone/statistics?every=yes")
        charts = page.locator(".plot")
        assert charts.count() >= 3
        for place in range(charts.count()):
            chart = charts.nth(place)
            table = chart.locator("table")
            assert not table.is_visible()
            chart.locator("summary").focus()
            page.keyboard.press("Enter")
            assert table.is_visible()
            assert table.get_by_role("row").count() >= 3
            assert chart.locator("svg").get_attribute("aria-label")
