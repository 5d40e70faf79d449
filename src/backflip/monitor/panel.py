"""One chart of the report, before there are numbers in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One chart: metrics by the names they are shown under."""

    title: str
    unit: str
    metrics: Mapping[str, str]
    percent: bool = False
    zero: bool = False
    lines: tuple[tuple[str, float], ...] = ()
