"""Times in files of other tools: ISO 8601, mail dates, Unix time → Unix seconds.

A time that cannot be is no time: the answer then stands under the time of its import, and that is
said.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

NO_ZONE = "time without a zone, read as UTC"
FUTURE = "time in the future; the time of the import stands for it"
UNREADABLE = "time that cannot be read; the time of the import stands for it"
MISSING = "no time given; the time of the import stands for it"
AHEAD = 120.0
"""Seconds by which the clock of another machine may be ahead."""
EARLIEST = 631_152_000.0
"""1990: what lies before is an empty time written as a number, or another unit."""
UNITS = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3), (0.0, 1.0))
"""From which size on a Unix time counts in nanoseconds, microseconds, milliseconds, seconds."""


def moment(given: Any, now: float) -> tuple[float | None, str]:
    """Unix seconds, and what is to be said of them; none where the time of the import counts."""
    if given is None or given == "":
        return None, MISSING
    try:
        seconds, said = _read(given)
    except (ValueError, TypeError, OverflowError):
        return None, UNREADABLE
    if not math.isfinite(seconds) or seconds < EARLIEST:
        return None, UNREADABLE
    return (None, FUTURE) if seconds > now + AHEAD else (min(seconds, now), said)


def _read(given: Any) -> tuple[float, str]:
    if isinstance(given, str) and re.fullmatch(r"[0-9]{9,20}(\.[0-9]*)?", given.strip()):
        given = float(given)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return given * next((unit for size, unit in UNITS if given >= size), 1.0), ""
    when = given if isinstance(given, datetime) else _written(given)
    if when.tzinfo is None:
        return when.replace(tzinfo=UTC).timestamp(), NO_ZONE
    return when.timestamp(), ""


def _written(given: Any) -> datetime:
    if not isinstance(given, str):
        raise TypeError(given)
    text = given.strip()
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC") + "Z" * text.endswith(" UTC"))
    except ValueError:
        return parsedate_to_datetime(text)
