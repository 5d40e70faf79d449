"""Model text → HTML that is safe to show: markdown, code, mathematics, conversations.

Four walls stand behind one another: hidden characters are spelled out, markdown is read with HTML
off, what comes out is cleaned by an allow-list (nh3), and the page's content security policy runs
no script that is not a file of ours. Pictures are never loaded: a reply could tell its author who
read it, and when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from backflip.server.text.characters import one_for_one, visible
from backflip.server.text.mathematics import add_mathematics

LONGEST_MARKDOWN = 60_000
"""Characters; longer texts are shown as plain text, for a parser's time grows with nesting."""
MOST_MARKS = 5_000
"""Brackets, stars and the like; beyond, the parser's time would grow with their square."""
MARKS = str.maketrans("", "", "[]()*_`$<>!|~\\")
LONGEST_CODE = 20_000
"""Characters of a block of code that is still coloured."""
LONGEST_SHOWN = 400_000
"""Characters; what is beyond is counted and left out."""
LONGEST_KEPT = 20_000
"""Characters of a text whose HTML is remembered."""

SAID = {
    "system": "Instructions",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "attacker": "Attacker",
}
"""Names above a turn, for raters."""

MATH = (
    "math mrow mi mn mo ms mtext mspace msup msub msubsup mfrac msqrt mroot mover munder "
    "munderover mtable mtr mtd mstyle mpadded mphantom menclose mmultiscripts"
)
PROSE = (
    "a blockquote br code del div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table tbody "
    "td th thead tr ul"
)
"""Elements of cleaned HTML, MathML and prose."""
DRAWING = (
    "mathvariant stretchy fence form separator lspace rspace width height depth linethickness "
    "columnalign rowspacing columnspacing displaystyle scriptlevel accent notation minsize maxsize "
    "movablelimits"
)
"""Attributes of MathML that only draw."""


MOST_TURNS = 3
"""Turns of a conversation that are in view at once."""
MOST_LETTERS = 700
"""Characters of a conversation, or of its last turn, that are in view at once."""


def render(text: str) -> Markup:
    """HTML of a text somebody or some model wrote, in a box that keeps its own direction."""
    if len(text) <= LONGEST_KEPT:
        return _kept(text)
    return _render(text)


@lru_cache(maxsize=4096)
def _kept(text: str) -> Markup:
    return _render(text)


def _render(text: str) -> Markup:
    shown = visible(text[:LONGEST_SHOWN])
    marks = len(shown) - len(shown.translate(MARKS))
    if len(shown) > LONGEST_MARKDOWN or marks > MOST_MARKS:
        return _plain(shown, left_out=len(text) - LONGEST_SHOWN)
    try:
        body = _clean(_markdown().render(shown))
    except RecursionError:  # ten thousand brackets inside one another
        return _plain(shown)
    return Markup('<div class="said" dir="auto">{}</div>').format(Markup(body))


def _plain(shown: str, left_out: int = 0) -> Markup:
    note = f"… {left_out:,} more characters are not shown." if left_out > 0 else ""
    box = Markup('<div class="said plain" dir="auto"><p>{}</p>{}</div>')
    return box.format(shown, Markup('<p class="note">{}</p>').format(note) if note else "")


def plain(text: str) -> Markup:
    """The text letter by letter, for labels that count characters: only escaped.

    Hidden characters become visible one for one, so that offsets stay true.
    """
    return escape(one_for_one(text))


def conversation(messages: Sequence[Mapping[str, Any]]) -> Markup:
    """A conversation as a list of turns, each saying who speaks.

    Of a long one the last turn is in view and the others are folded above it, so that what is
    judged stands on the same screen; a turn that is long itself is scrolled in a box of its own.
    """
    if len(messages) > 1 and (len(messages) > MOST_TURNS or _letters(messages) > MOST_LETTERS):
        folded, shown = messages[:-1], messages[-1:]
        count = f"{len(folded)} earlier turn{'' if len(folded) == 1 else 's'}"
        box = Markup('<details class="earlier"><summary>{}</summary>{}</details>{}')
        return box.format(count, _turns(folded), _turns(shown, boxed=True))
    return _turns(messages, boxed=True)


def _letters(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(str(message.get("content", ""))) for message in messages)


def _turns(messages: Sequence[Mapping[str, Any]], *, boxed: bool = False) -> Markup:
    turns = Markup().join(_turn(message, boxed) for message in messages)
    return Markup('<ol class="turns">{}</ol>').format(turns)


def _turn(message: Mapping[str, Any], boxed: bool) -> Markup:
    role, text = str(message.get("role", "user")), str(message.get("content", ""))
    known = role if role in SAID else "user"
    body = render(text)
    if boxed and len(text) > MOST_LETTERS:
        box = Markup('<div class="long" tabindex="0" role="region" aria-label="{}">{}</div>')
        body = box.format(f"{SAID[known]}, a long turn", body)
    return Markup('<li class="turn {}"><span class="who">{}</span>{}</li>').format(
        known, SAID[known], body
    )


def _clean(html: str) -> str:
    return _cleaner().clean(html)


@cache
def _cleaner() -> nh3.Cleaner:
    attributes = {tag: set(DRAWING.split()) for tag in MATH.split()}
    attributes |= {
        "math": {"display", "class"},
        "a": {"href", "title"},
        "span": {"class"},
        "div": {"class"},
        "code": {"class"},
        "pre": {"class"},
        "ol": {"start"},
        "td": {"align"},
        "th": {"align"},
    }
    return nh3.Cleaner(
        tags={*MATH.split(), *PROSE.split()},
        attributes=attributes,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )


@cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _coloured})
    reader.enable(["table", "strikethrough"])
    add_mathematics(reader)
    reader.add_render_rule("image", _image)
    return reader


def _image(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """A picture in a reply: its description and address in words; nothing is loaded."""
    del self, options, env
    token = tokens[index]
    said = f"[image: {token.content}] ({token.attrGet('src') or ''})"
    return str(Markup('<span class="picture">{}</span>').format(said))


def _coloured(code: str, language: str, attributes: str) -> str:
    """Code in colours by classes, not styles, which the content security policy would refuse."""
    del attributes
    if not language or len(code) > LONGEST_CODE:
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return ""
    return highlight(code, lexer, _COLOURS)


_COLOURS = HtmlFormatter(nowrap=True, classprefix="k-")
