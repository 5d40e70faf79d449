"""Debian's Chromium through Playwright, where both are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window. Skips the test, with the reason, where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}; set $CHROMIUM, or install it")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def visitor(browser: Any, faults: list[str], **more: Any) -> Any:
    """A page of a fresh browser; what its console complains of is collected."""
    desk = {"viewport": {"width": 1280, "height": 860}}
    page = browser.new_context(**{**desk, **more}).new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if "Content Security" in m.text else None)
    return page


def press(page: Any, key: str) -> None:
    """A key, once the page takes keys: right after a change it ignores them for a moment."""
    page.wait_for_timeout(450)
    page.keyboard.press(key)
