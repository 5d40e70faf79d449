"""Parts of the system that not every machine has: a browser, a database server."""

from __future__ import annotations

import os

import pytest


def need(missing: str) -> None:
    """Skip the test with the reason, if there is one; with BACKFLIP_ALL_PARTS set, fail."""
    if missing and os.environ.get("BACKFLIP_ALL_PARTS"):
        pytest.fail(f"{missing} (BACKFLIP_ALL_PARTS is set: nothing may be skipped)")
    if missing:
        pytest.skip(missing)
