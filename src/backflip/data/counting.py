"""Numbers and what they count, in words: ``1 row``, ``1,200 rows``, ``0.2 M parameters``."""

from __future__ import annotations


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


def millions(number: float | int) -> str:
    """A size of a model in millions, never rounded down to nothing: ``135 M``, ``0.2 M``."""
    if number >= 1e9:
        return magnitude(number)
    if number < 1e3:
        return f"{number:.0f}"
    return f"{number / 1e6:{'.0f' if number >= 1e8 else '.1f' if number >= 5e4 else '.1g'}} M"
