"""Requests by chance that fit the interface's own description, and such that do not.

Schemathesis makes them, for every operation, as an admin's program and as a rater's. The server is
the real one; it must answer each as it is described to, and never with a fault of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backflip.server.work import figures
from tests.feedback.answered import project_of
from tests.server.served import Served, served
from tests.server.test_figures import KINDS

pytestmark = pytest.mark.fuzz

DESCRIBED = "/api/v1/openapi.json"
SCOPES = ["rate", "read", "write"]
CASES = 30
"""For each operation, of those that fit, and of those that do not."""
ITEMS = 2000
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
quietly = settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Program:
    """A program with a token, and what it was told."""

    made: Served
    person: int
    token: str
    told: Counter[tuple[str, int]] = field(default_factory=Counter)

    def ask(self, case: Any) -> None:
        """Send a request. One that names an item names one that lies before us; of two answers
        one is an answer.
        """
        body = case.body if isinstance(case.body, dict) else {}
        if isinstance(body.get("item"), int):
            shown = self.made.store.project("tone").next(self.person)
            body["item"] = shown[0].alias if shown else body["item"]
            if isinstance(body.get("value"), dict) and self.told.total() % 2:
                body["value"] = {"choice": "a", "strength": 1}
        response = case.call(headers={"Authorization": f"Bearer {self.token}"})
        self.told[f"{case.method} {case.path}", response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    def ask_all(self, operation: Any) -> None:
        """Requests to one operation, of the project that is there."""
        fixed = {"name": "tone"} if "{name}" in operation.path else {}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            cases = operation.as_strategy(generation_mode=mode, path_parameters=fixed or None)

            @quietly
            @given(case=cases)
            def each(case: Any) -> None:
                self.ask(case)

            with suppress(Unsatisfiable):  # where nothing is described, nothing can be amiss
                each()


@pytest.fixture(params=["admin", "rater"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    made = served(tmp_path, answers_per_minute=1e9)
    project = made.project(items=ITEMS, raters_per_item=1)
    person = made.person("Ada", admin=request.param == "admin")
    project.enrol(person, role=request.param)
    yield Program(made, person, made.store.people.token(person, "fuzz", SCOPES))
    made.site.jobs.close()
    made.store.close()


@pytest.mark.slow
def test_no_request_is_answered_otherwise_than_described(
    program: Program, request: pytest.FixtureRequest
):
    described = schemathesis.openapi.from_asgi(DESCRIBED, program.made.app)
    asked = described.exclude(method="POST", path_regex="/jobs$")  # each would start a training
    operations = [found.ok() for found in asked.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        program.ask_all(operation)
    assert program.told.total() > CASES * len(operations)
    place, admin = "/api/v1/projects/{name}", "admin" in request.node.name
    assert program.told[f"POST {place}/answers", 200] > 0
    assert program.told[f"POST {place}/answers", 422] > 0
    assert (program.told[f"GET {place}/events", 200] > 0) is admin
    assert (program.told[f"GET {place}/events", 403] > 0) is not admin


# ---- answers of every kind, bent out of shape

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@st.composite
def bent(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value of which one place, wherever it lies, is gone or something else."""
    inside = isinstance(value, dict | list) and len(value) > 0
    if not inside or draw(st.integers(0, 3)) == 0:
        return draw(ANYTHING)
    places = list(value) if isinstance(value, dict) else range(len(value))
    made, place = copy(value), draw(st.sampled_from(list(places)))
    if draw(st.integers(0, 4)) == 0:
        del made[place]
    else:
        made[place] = draw(bent(value[place]))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_every_kind_may_have_any_shape(server: Served, kind: str):
    """A bent answer is stored or refused, never a fault; what was stored can be read afterwards."""
    item, said, more, _ = KINDS[kind]
    project, (person,) = project_of(
        server.store, kind, [item(n) for n in range(500)], raters=1, **more
    )
    browser = server.as_person(person)
    browser.get("/me")
    told = Counter[int]()

    @quietly
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        shown = project.next(person)[0]
        value = data.draw(bent(said(data.draw(st.booleans()), told.total())))
        body = {"item": shown.alias, "value": value}
        told[browser.call("/api/v1/projects/tone/answers", body).status_code] += 1

    each()
    assert set(told) <= {200, 400, 422}
    assert told[400] + told[422] > 0
    shown = project.next(person)[0]
    value = said(True, 0)
    assert browser.call(
        "/api/v1/projects/tone/answers", {"item": shown.alias, "value": value}
    ).status_code == (422 if kind == "talk" else 200)  # a talk's replies carry the server's stamp
    assert len(list(project.answers())) == told[200] + (kind != "talk")
    assert figures.of_project(project, resamples=20)
