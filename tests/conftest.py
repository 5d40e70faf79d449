"""What tests of more than one room stand on: types that are checked, and what a test needs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

CHECKED = ("functional", "algorithms", "data", "models", "reward", "feedback.statistics")
"""Rooms of tensors and numbers, whose types are checked at every call of their tests."""
if os.environ.get("BACKFLIP_TYPES") != "0":  # before anything of them is imported
    install_import_hook([f"backflip.{room}" for room in CHECKED], "beartype.beartype")

settings.register_profile("busy", deadline=None)  # a machine with other work is no fault
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a browser, or a database server, by what it is made of."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "chromium" in {name for made in _functions(item) for name in made.__code__.co_names}:
            item.add_marker("browser")
        words = {value for value in parameters.values() if isinstance(value, str)}
        if "pg" in fixtures or "postgresql" in words:
            item.add_marker("database")


def _functions(item: pytest.Item) -> Iterator[Any]:
    """A test, and the fixtures that it stands on."""
    yield inspect.unwrap(getattr(item, "obj", _functions))
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    for definitions in known.values():
        yield from (
            inspect.unwrap(one.func) for one in definitions if hasattr(one.func, "__code__")
        )


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """What references said in one test is not heard in another."""
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
