"""One number at the top of the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Card:
    """One number at the top of the page."""

    label: str
    value: str
    detail: str = ""
    picture: Markup = field(default_factory=Markup)
