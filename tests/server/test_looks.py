"""Colours that can be told apart, and files that load nothing from elsewhere."""

from __future__ import annotations

import re

import pytest

from backflip.server.base.templating import STATIC, first_line, script_json, took

CSS = (STATIC / "app.css").read_text()
TEXTS = ("ink", "soft", "accent", "good", "warn", "bad")
GROUNDS = ("paper", "card", "sunk")
PAIRED = (("good", "good-bg"), ("warn", "warn-bg"), ("bad", "bad-bg"), ("accent", "accent-bg"))
BADGES = (("accent-ink", "accent"), ("ink", "accent-bg"), ("ink", "good-bg"), ("ink", "bad-bg"))


def palette(dark: bool) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.S)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", blocks[0]))
    return found | (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", blocks[1])) if dark else {})


def luminance(colour: str) -> float:
    """Of WCAG 2.2: linear light, weighed as the eye does."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_on_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_stands_out_from_its_ground(dark: bool):
    """WCAG 2.2 AA: 4.5 to 1 for text."""
    colours = palette(dark)
    pairs = [(text, ground) for text in TEXTS for ground in GROUNDS]
    for text, ground in [*pairs, *PAIRED, *BADGES]:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize("dark", [False, True])
def test_edges_of_controls_and_curves_can_be_seen(dark: bool):
    """WCAG 2.2 AA: 3 to 1 for what is needed to know a control or a curve."""
    colours = palette(dark)
    for name in ("edge", "accent", "c1", "c2", "c3", "c4", "c5", "c6"):
        for ground in ("paper", "card"):
            assert contrast(colours[name], colours[ground]) >= 3.0, (name, ground)


def test_nothing_is_loaded_from_another_server():
    for path in (one for one in STATIC.rglob("*") if one.is_file()):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|//[a-z0-9-]+\.[a-z]{2,}/", text), path.name


def test_who_wants_no_motion_gets_none():
    for name in ("app.css", "rate.css"):
        text = (STATIC / name).read_text()
        calm = re.sub(
            r"@media \(prefers-reduced-motion: no-preference\) \{.*?\}\s*\}", "", text, flags=re.S
        )
        assert not re.search(r"\b(animation|transition):", calm), name


def test_json_in_a_page_cannot_end_its_element():
    hostile = script_json({"x": "</script><script>alert(1)</script><!--"})
    assert "<" not in hostile
    assert "&" not in hostile


def test_times_are_told_in_their_two_largest_units():
    assert [took(s) for s in (3.2, 75.0, 7384.0)] == ["3 s", "1 min 15 s", "2 h 03 min"]


def test_the_first_line_of_markdown_is_plain_text():
    assert first_line("\n## Be **kind** and `short`\nmore") == "Be kind and short"
    assert first_line("x" * 200).endswith("…")
