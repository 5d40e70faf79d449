"""When the figures of a project are worked out anew: when somebody looks, and, where a dynamic
overlap learns from them, in passing while raters answer.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from backflip.server.base.auth import Place
from backflip.server.base.state import AppState
from backflip.server.work import figures

FRESH = 60.0
"""Seconds that figures stand before new answers make them worth working out again."""
PASSING = 600.0
"""Seconds between two times that an overlap's project is looked at while raters answer."""
TITLE = "Statistics"


def refresh(site: AppState, here: Place, made: Mapping[str, Any] | None) -> bool:
    """Start working the figures out anew where there is something new; true while that lasts."""
    running = [j for j in site.jobs.of(here.name) if j.title == TITLE and not j.over]
    if running:
        return True
    if made is not None:
        unchanged = made["event"] == here.project.newest_event()
        if unchanged or time.time() - made["at"] < FRESH:
            return False
    elif not here.project.tallies().get("answers", 0):
        return False
    if site.jobs.lately_failed(here.name, TITLE, FRESH):
        return False
    file = str(site.figures(here.name))
    command = [sys.executable, "-m", "backflip.server.work.figures", here.name, file]
    site.jobs.start(here.name, TITLE, command, short=True)
    return True


def in_passing(site: AppState, here: Place) -> None:
    """Let a dynamic overlap learn whom to trust though nobody looks at the statistics.

    A rater waits for two comparisons; every ``PASSING`` seconds a thread does the rest.
    """
    if here.settings.overlap is None:
        return
    now = time.monotonic()
    if now - site.learnt.setdefault(here.name, now) < PASSING:
        return
    site.learnt[here.name] = now
    made = site.figures(here.name)
    work = threading.Thread(target=lambda: refresh(site, here, figures.read(made)), daemon=True)
    work.start()
