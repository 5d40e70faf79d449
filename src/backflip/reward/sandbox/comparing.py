"""Equality of what a program says and what is expected of it."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

__all__ = ["equal", "keyed", "lines", "same"]

NUMBER = re.compile(r"(?<![\w.])([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?)(?![\w.])")
"""A number by itself, neither part of a name nor of a version; the only group, so that texts are
split into what stands beside numbers and, at odd places, numbers."""
WHOLE = re.compile(r"-?\d{1,18}")
LARGEST = 400
"""Powers of ten beyond which numbers are one only where they are equal."""


def lines(text: str) -> list[str]:
    """Lines without white space at their ends, and without empty ones at the end."""
    return [line.rstrip() for line in text.rstrip().splitlines()]


def same(told: str, wanted: str) -> bool:
    """Equality of two lines, in which numbers with a fraction or exponent count as numbers."""
    if told == wanted:
        return True
    pairs = list(zip(NUMBER.split(told), NUMBER.split(wanted), strict=False))
    as_many = len(NUMBER.findall(told)) == len(NUMBER.findall(wanted))
    return as_many and all(a == b or (at % 2 and _close(a, b)) for at, (a, b) in enumerate(pairs))


def _close(told: str, wanted: str) -> bool:
    """Whether two numbers agree as far as both are written out, and to six places; whole numbers,
    which may be names or digits of another base, agree as texts.
    """
    if not set(".eE") & set(told + wanted):
        return told == wanted
    a, b = Decimal(told), Decimal(wanted)
    if max(abs(a.adjusted()), abs(b.adjusted())) > LARGEST:
        return a == b
    places = max(int(one.as_tuple().exponent) for one in (a, b))
    size = max(1, abs(b))
    written = max(Decimal(1).scaleb(places) / 2, size * Decimal("1e-12"))
    return abs(a - b) <= min(written, size * Decimal("1e-6"))


def keyed(value: Any) -> Any:
    """A mapping with whole numbers for keys where all of its keys are texts of such."""
    if isinstance(value, dict) and value and all(WHOLE.fullmatch(key) for key in value):
        return {int(key): one for key, one in value.items()}
    return value


def equal(result: Any, wanted: Any) -> bool:
    """Equality where lists of JSON stand for tuples, and numbers agree to six places."""
    if isinstance(wanted, list) and isinstance(result, list | tuple):
        pairs = zip(result, wanted, strict=False)
        return len(result) == len(wanted) and all(equal(a, b) for a, b in pairs)
    if isinstance(wanted, dict) and isinstance(result, dict):
        keys = {str(key): one for key, one in result.items()}
        return keys.keys() == wanted.keys() and all(equal(keys[k], wanted[k]) for k in wanted)
    if isinstance(wanted, float) and isinstance(result, int | float):
        return math.isclose(result, wanted, rel_tol=1e-6, abs_tol=1e-9)
    return bool(result == wanted)
