"""Templates: jinja2 with everything escaped, and the few words and filters that they share."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from backflip.feedback.kinds.registry import every_kind, kind_of
from backflip.server.text.characters import visible
from backflip.text import coefficient, counted, percent

HERE = Path(__file__).parent.parent
STATIC = HERE / "static"
MARKS = re.compile(r"^[#>\s-]+|[*`]+|(?<!\w)_+|_+(?!\w)")
"""Marks of markdown that a line of plain text has no use for."""


def environment() -> Environment:
    """The templates of this room."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["moment"] = moment
    made.filters |= {"coefficient": coefficient, "percent": percent}
    made.globals |= {
        "static": static,
        "every_kind": every_kind,
        "kind_of": kind_of,
        "kinds_with": kinds_with,
        "counted": counted,
        "state_tag": state_tag,
    }
    parts: Any = made.get_template("parts.html").module
    names = (
        "brand",
        "field",
        "area",
        "choose",
        "check",
        "copyable",
        "picture",
        "gauge",
        "tick",
        "ticked",
        "number",
    )
    made.globals |= {name: getattr(parts, name) for name in names}
    made.globals["put"] = PUT
    return made


PUT = (
    ("adjudicate", "Let an adjudicator decide"),
    ("open", "Ask again"),
    ("dropped", "Drop"),
)
"""States into which a lead puts items, and what the buttons say."""


def moment(at: float | int) -> Markup:
    """A point in time with its zone: UTC as it is sent, the viewer's own once the page is there."""
    then = datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        f"{then:%Y-%m-%dT%H:%M:%SZ}", f"{then:%d %b %Y, %H:%M} UTC"
    )


def took(seconds: float | int) -> str:
    """A length of time in the two largest units."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes:
        return f"{minutes} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole} s" if whole else "less than a second"


@lru_cache(maxsize=64)
def static(name: str) -> str:
    """The address of a static file, with a mark that changes when the file does."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:8]
    return f"/static/{name}?{digest}"


def kinds_with(setting: str) -> str:
    """Names of the kinds that have a setting of their own, as the page's script reads them."""
    return " ".join(kind.name for kind in every_kind() if setting in kind.settings)


def state_tag(state: str) -> Markup:
    """A job's state as a small label."""
    colour = {"done": "good", "running": "blue", "failed": "bad", "broken off": "bad"}
    return Markup('<span class="tag {}">{}</span>').format(colour.get(state, ""), state)


def script_json(data: Any) -> Markup:
    """JSON inside a ``script`` element of data: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=True)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def first_line(text: str, most: int = 120) -> str:
    """The first line of a text that says something, for lists."""
    lines = (MARKS.sub("", line).strip() for line in visible(text[:4000]).splitlines())
    line = next((line for line in lines if line), "")
    return line if len(line) <= most else line[: most - 1] + "…"
