"""Every test here starts several processes: a lane of its own, `make test-distributed`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("distributed")


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """No test hears what a reference said in another."""
