"""What tests of more than one room stand on."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # a machine with other work is no fault
settings.load_profile("busy")


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """What references said in one test is not heard in another."""
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
