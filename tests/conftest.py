"""What tests of more than one room stand on."""

from __future__ import annotations

import pytest


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """What references said in one test is not heard in another."""
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
