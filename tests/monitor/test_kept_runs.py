"""Runs of November 2026, as they lie on disks, are told as they were told then.

``data/expected.json`` is what the reports of that day said; their stages were called ``ppo`` and
``iterative``. Only the title of ``one_step_ppo`` is another, which was PPO.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from backflip.monitor.report import render

DATA = Path(__file__).parent / "data"
EXPECTED = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))


def texts(page, pattern):
    """What stands between the tags that a pattern finds, without its own tags."""
    parts = re.findall(pattern, page, re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split()) for part in parts]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_kept_run_says_what_it_said(name):
    page = render(DATA / name)
    assert {
        "verdict": " ".join(texts(page, r"<li>(.*?)</li>")),
        "cards": texts(page, r'<div class="card">(.*?)</div>'),
        "charts": texts(page, r'viewBox="0 0 420 230" role="img" aria-label="(.*?)">'),
        "alarms": texts(page, r'<div class="alarm-row[^>]*>(.*?)</div>'),
    } == EXPECTED[name]
