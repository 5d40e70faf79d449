"""Numbers, shares, counts and times as text: ``1 row``, ``12.5 %``, ``0.2 M``, ``2.5 hours``."""

from __future__ import annotations

import math


def counted(number: float | int, one: str, several: str = "") -> str:
    """A whole number and its noun (with its verb, where one is given), singular only for 1.

    ``several`` is ``one`` with an s unless it is given.
    """
    return f"{number:,.0f} {one if round(number) == 1 else several or f'{one}s'}"


def magnitude(number: float | int) -> str:
    """A large number in three digits: ``135 M``, ``12.3 k``, ``950``."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if letter == 'k' else size):.3g} {letter}"
    return f"{number:.0f}"


def about(number: float | int) -> str:
    """A number that is not known better than that, in two digits: ``0.37``, ``12``, ``4,800``."""
    if not number:
        return "0"
    digits = 1 - math.floor(math.log10(abs(number)))
    return f"{round(number, digits):,.{max(digits, 0)}f}"


def millions(number: float | int) -> str:
    """A size of a model in millions, never rounded down to nothing: ``135 M``, ``0.2 M``."""
    if number >= 1e9:
        return magnitude(number)
    if number < 1e3:
        return f"{number:.0f}"
    return f"{number / 1e6:{'.0f' if number >= 1e8 else '.1f' if number >= 5e4 else '.1g'}} M"


def lasting(seconds: float | int) -> str:
    """A length of time as people say it: less than a minute, 4 minutes, 2.5 hours, 30 hours."""
    if seconds < 60:
        return "less than a minute" if seconds > 0 else "no time"
    if round(seconds / 60) < 120:
        return counted(seconds / 60, "minute")
    hours = seconds / 3600
    return counted(hours, "hour") if hours >= 10 else f"{hours:.1f}".removesuffix(".0") + " hours"


def duration(seconds: float | int) -> str:
    """A length of time as a clock counts it: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {whole % 60} s"


def minus(number: str) -> str:
    """A printed number with a real minus sign."""
    return number.replace("-", "−")


def fixed(number: float | int, digits: int) -> str:
    """A number with ``digits`` behind the point: ``0.61``, ``−0.12``, and 0 without a sign."""
    text = f"{number:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else minus(text)


def signed(number: float | int, digits: int) -> str:
    """A difference with its sign: ``+0.3``, ``−1.2``."""
    return minus(f"{number:+.{digits}f}")


def percent(share: float | int, digits: int = 0) -> str:
    """A share in percent: ``12 %``, ``12.5 %``."""
    return f"{fixed(100 * share, digits)} %"


def coefficient(x: float | int) -> str:
    """A coefficient of agreement in two digits, the same wherever it stands: 0.61, −0.12, 0.00."""
    return fixed(x, 2)
