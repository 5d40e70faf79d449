"""Text of strangers: what is drawn of it, and what never is."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.server.text.characters import one_for_one, visible
from backflip.server.text.rendering import (
    DRAWING,
    LONGEST_MARKDOWN,
    LONGEST_SHOWN,
    MATH,
    PROSE,
    conversation,
    plain,
    render,
)

ATTRIBUTES = {"class", "dir", "href", "title", "rel", "start", "align", "display"}

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](https://example.org/beacon.png)",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "$\\href{javascript:alert(1)}{x}$",
    '<a href="https://example.org" style="position:fixed">x</a>',
    "```html\n<script>alert(1)</script>\n```",
    "$<script>alert(1)</script>$",
    "<iframe src=//example.org></iframe><form action=//example.org><input name=csrf>",
]


class Seen(HTMLParser):
    """What a browser would make elements and attributes of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")


def check_harmless(html: str) -> None:
    seen = Seen(html)
    assert seen.tags <= {*PROSE.split(), *MATH.split()}
    assert set(seen.attributes) <= {*DRAWING.split(), *ATTRIBUTES}
    for address in seen.attributes.get("href", ()):
        assert address.startswith(("http://", "https://", "mailto:"))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_never_runs(text: str):
    """No element and no attribute that could load or run anything is left."""
    check_harmless(str(render(text)))


@given(st.text(max_size=300) | st.text("<>[]()$`*_!&\\\"'= ajx:/\n", max_size=120))
def test_whatever_is_written_no_element_but_known_ones_comes_out(text: str):
    html = str(render(text))
    check_harmless(html)
    assert "\x00" not in html
    assert "\u202e" not in html


def test_markdown_code_and_tables_become_elements():
    html = str(render("**bold**\n\n- one\n\n```python\nx = 1\n```\n\n|a|b|\n|-|-|\n|1|2|"))
    for element in ("<strong>bold</strong>", "<li>one</li>", 'class="k-', "<table>", "<td>1</td>"):
        assert element in html


@pytest.mark.parametrize("text", ["$x^2$", r"\(x^2\)", "$$x^2$$", "\\[\nx^2\n\\]"])
def test_formulas_become_mathml(text: str):
    assert "<msup>" in str(render(f"Take {text}" if text[0] == "$" and text[1] != "$" else text))


def test_words_around_a_formula_stay():
    """As models write: a formula on the line below its sentence, and words behind one."""
    for before, after in (("The answer is:\n", "\nas said."), ("", " holds."), ("so ", " (1)")):
        html = str(render(f"{before}\\[x^2\\]{after}"))
        assert "<msup>" in html
        assert before.strip() in html
        assert after.strip() in html


def test_prices_are_not_formulas():
    for text in ("It costs $5 and then $10.", "It costs 5$ to 10$.", "From $5-$10 a day"):
        assert text in str(render(text))


def test_what_is_not_latex_stays_as_it_was_written():
    assert "\\frac{" in str(render("$\\frac{$"))


def test_a_formula_in_code_is_code():
    assert "<math" not in str(render("`$x^2$`"))


def test_directions_and_null_bytes_are_spelled_out():
    assert visible("a\x00b\u202ec\u200bd") == "a␀b⟦RLO⟧c⟦ZWSP⟧d"
    assert visible("a\r\nb\u2028c") == "a\nb\nc"
    assert visible("\ud800") == "\ufffd"


def test_joiners_stay_for_the_scripts_that_need_them():
    persian, family = "می\u200cخواهم", "👨\u200d👩\u200d👧"
    assert visible(persian) == persian
    assert visible(family) == family


@given(st.text(max_size=200))
def test_offsets_of_spans_stay_true(text: str):
    """One visible character for every hidden one, so that a label points where it was put."""
    shown = one_for_one(text)
    assert len(shown) == len(text)
    assert all(
        a == b or not a.isprintable() or visible(a) != a for a, b in zip(text, shown, strict=True)
    )


def test_each_text_keeps_its_direction_to_itself():
    html = str(render("שלום"))
    assert 'dir="auto"' in html


@pytest.mark.parametrize(
    "text",
    [
        "x" * 300_000,
        "[" * 30_000,
        "> " * 20_000 + "deep",
        "*" * 50_000,
        "`" * 40_001,
        "$" * 50_000,
        "$a" * 20_000,
        "\\(" * 20_000,
        "![" * 20_000,
        "<" * 50_000,
        "|a" * 20_000 + "\n" + "|-" * 20_000,
        "- " * 10_000,
    ],
)
def test_no_text_takes_more_than_a_moment(text: str):
    """Relative to plain text of the same length: no nesting makes the parser run wild."""
    plain_text = ("word " * 12_000)[: min(len(text), LONGEST_MARKDOWN)]
    start = time.perf_counter()
    render(plain_text + " ")
    usual = time.perf_counter() - start
    start = time.perf_counter()
    render(text)
    assert time.perf_counter() - start < 300 * usual


def test_very_long_text_is_cut_and_says_so():
    html = str(render("y" * (LONGEST_SHOWN + 1234)))
    assert "1,234 more characters are not shown" in html


def test_a_conversation_says_who_speaks_and_knows_no_foreign_roles():
    html = str(conversation([{"role": "user", "content": "Hi"}, {"role": "<b>", "content": "Ho"}]))
    assert '<span class="who">User</span>' in html
    assert "<b>" not in html


def test_plain_text_is_escaped():
    assert plain("<b>&\u202e") == "&lt;b&gt;&amp;\ufffd"


def test_a_long_conversation_is_folded_above_its_last_turn():
    turns = [{"role": "user", "content": f"turn {n}"} for n in range(6)]
    html = str(conversation(turns))
    folded, _, shown = html.partition("</details>")
    assert "5 earlier turns" in folded
    assert [f"turn {n}" in folded for n in range(6)] == [True] * 5 + [False]
    assert "turn 5" in shown
    assert "<details" not in str(conversation(turns[:3]))


def test_a_long_turn_is_folded_away_or_scrolled_in_its_box():
    long = {"role": "user", "content": "word " * 400}
    short = {"role": "assistant", "content": "Yes."}
    assert "1 earlier turn<" in str(conversation([long, short]))
    alone = str(conversation([long]))
    assert "<details" not in alone
    assert 'class="long" tabindex="0"' in alone
