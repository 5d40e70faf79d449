"""Formulas compared by math-verify and sympy: numbers to many digits, all else exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from backflip.reward.verifiers.notation import ungrouped

__all__ = ["UnreadableError", "same_formulas"]

DIGITS = 60
"""Digits to which constants are worked out."""
CLOSE = 10**-40
"""Ratio to 1 beyond which two constants are not one."""


class UnreadableError(Exception):
    """A formula cannot be read; ``gold`` says whether it is the reference's."""

    def __init__(self, *, gold: bool) -> None:
        super().__init__("the formula cannot be read")
        self.gold = gold


@lru_cache(maxsize=256)
def parsed(piece: str) -> Sequence[Any]:
    """Expressions that math-verify reads in an answer."""
    from math_verify import parse

    unbounded: Any = None  # the worker's limit stands in place of the parser's own
    piece = ungrouped(piece)
    for text in (f"\\boxed{{{piece}}}", piece):
        found = parse(text, parsing_timeout=unbounded)
        if found := [one for one in found if not isinstance(one, str)]:
            return found
    return []


def same_formulas(gold: str, piece: str) -> bool:
    """Whether two formulas are one; decimals agree with constants to six places."""
    ours, theirs = parsed(gold), parsed(piece)
    if not ours or not theirs:
        raise UnreadableError(gold=not ours)
    return any(_same(one, other) for one in ours for other in theirs)


def _same(one: Any, other: Any) -> bool:
    from math_verify import verify
    from sympy import MatrixBase

    if (verdict := _same_numbers(one, other)) is not None:
        return verdict
    if isinstance(one, MatrixBase) and isinstance(other, MatrixBase):
        return one.shape == other.shape and all(map(_same, one.flat(), other.flat()))
    ours, theirs = _exact(one), _exact(other)
    return verify(
        ours, theirs, float_rounding=DIGITS, numeric_precision=4 * DIGITS, timeout_seconds=None
    )


def _exact(expression: Any) -> Any:
    """An expression whose decimals are fractions."""
    from sympy import Float, Rational

    try:
        decimals = {one: Rational(str(one)) for one in expression.atoms(Float)}
        return expression.xreplace(decimals) if decimals else expression
    except (AttributeError, TypeError, ValueError):
        return expression


def _same_numbers(one: Any, other: Any) -> bool | None:
    """Whether two constants are one; None where one of them is no constant."""
    from sympy import Expr, Float

    if not all(isinstance(x, Expr) and not x.free_symbols for x in (one, other)) or (
        _is_percent(one) or _is_percent(other)
    ):
        return None
    try:
        ours, theirs = (_exact(x).evalf(DIGITS) for x in (one, other))
    except (ArithmeticError, TypeError, ValueError):
        return None
    if not (ours.is_number and theirs.is_number and ours.is_finite and theirs.is_finite):
        return None
    size, apart = max(abs(ours), abs(theirs)), abs(ours - theirs)
    if one.has(Float) or other.has(Float):
        close = apart < size * 1e-6 if size < 1e-3 else ours.round(6) == theirs.round(6)
        return bool(close)
    same = apart <= size * CLOSE
    return None if not same and size < CLOSE else bool(same)


def _is_percent(expression: Any) -> bool:
    """Whether math-verify read a percent sign."""
    from math_verify.grader import get_pct_val

    return get_pct_val(expression) is not None
