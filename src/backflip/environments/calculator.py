"""A calculator: arithmetic by a parser of Python's syntax trees, in bounds and without ``eval``."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

__all__ = ["Calculator", "evaluate"]

Number: TypeAlias = int | float | Fraction
LONGEST, MOST_BITS = 400, 4096
"""Characters of an expression, and bits of any number that it comes to on the way."""
SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "\u00a0": " "})
CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
PLAIN: Mapping[str, Callable[..., Any]] = {"abs": abs, "min": min, "max": max, "round": round}
"""Functions that keep fractions exact."""
INEXACT = ("sqrt", "exp", "log", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan")
WHOLE = ("floor", "ceil")
BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Calculator:
    """A tool for arithmetic; whoever judges the answer is somebody else."""

    def __init__(self, operations: int | None = None) -> None:
        """``operations``: most of them in one expression; None leaves out the bound."""
        self._operations = operations

    def reset(self) -> None:
        """Nothing is remembered from one calculation to the next."""

    def calculate(self, expression: str) -> str:
        """Evaluates an arithmetic expression.

        Args:
            expression: Numbers with + - * / // % ** and parentheses, such as 2 * (3 + 4).

        Returns:
            The value.

        """
        return evaluate(expression, operations=self._operations)


def evaluate(expression: str, *, operations: int | None = None) -> str:
    """The value of an arithmetic expression as text: whole, or in 12 digits.

    Decimals are exact fractions, so that 0.1 + 0.2 is 0.3. Raises ValueError, in words, for
    whatever is no arithmetic, is longer than 400 characters, has more than ``operations``, or comes
    to a number of more than 4,096 bits.
    """
    if len(expression) > LONGEST:
        raise ValueError(f"the expression has {len(expression)} characters, at most {LONGEST}")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", expression.translate(SIGNS)).strip()
    try:
        tree = ast.parse(text, mode="eval").body
        count = sum(isinstance(node, ast.BinOp | ast.Call) for node in ast.walk(tree))
        if operations is not None and count > operations:
            raise ValueError(f"{count} operations at once, at most {operations}")
        return _shown(_value(tree))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{expression!r} is no arithmetic") from error
    except ZeroDivisionError as error:
        raise ValueError("division by zero") from error
    except OverflowError as error:
        raise ValueError("the result is too large") from error


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=bool()):
            raise ValueError(f"{node.value} is no number")
        case ast.Constant(value=int() | float()):
            return _bounded(_literal(node))
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner)
        case ast.BinOp(left=left, op=op, right=right):
            return _bounded(_binary(op, _value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _bounded(_called(name, [_value(one) for one in args]))
        case ast.Name(id=name):
            raise ValueError(f"{name!r} has no value; {', '.join(CONSTANTS)} have one")
        case _:
            raise ValueError(f"{type(node).__name__} is no arithmetic")


def _literal(node: ast.Constant) -> Number:
    """Decimals as they are written, not as the nearest float; huge exponents are refused."""
    value: Any = node.value
    if isinstance(value, int):
        return value
    if not math.isfinite(value) or (value != 0 and not 1e-300 < abs(value) < 1e300):
        raise ValueError("the number is too large or too small")
    return Fraction(repr(value))


def _binary(op: ast.operator, left: Number, right: Number) -> Number:
    if isinstance(op, ast.Pow):
        return _power(left, right)
    if isinstance(op, ast.Div):
        exact = not isinstance(left, float) and not isinstance(right, float)
        return Fraction(left) / Fraction(right) if exact else left / right
    if type(op) not in BINARY:
        raise ValueError(f"{type(op).__name__} is no arithmetic")
    return BINARY[type(op)](left, right)


def _power(base: Number, exponent: Number) -> Number:
    """Exact for a whole exponent whose result stays in the bounds."""
    whole = isinstance(exponent, int) or (
        isinstance(exponent, Fraction) and exponent.denominator == 1
    )
    if not whole or isinstance(base, float):
        found = float(base) ** float(exponent)
        if isinstance(found, complex):
            raise ValueError("a negative number has no such power")
        return found
    times = int(exponent)
    if abs(times) * max(_bits(base), 1) > MOST_BITS and base not in (0, 1, -1):
        raise ValueError("the result is too large")
    return Fraction(base) ** times if times < 0 else base**times


def _called(name: str, given: list[Number]) -> Number:
    if name == "factorial":
        (number,) = given if len(given) == 1 else (-1,)
        if not isinstance(number, int) or not 0 <= number <= 300:
            raise ValueError("factorial takes one whole number from 0 to 300")
        return math.factorial(number)
    if name == "round" and len(given) == 2 and not (_bits(given[1]) <= 7 and given[1] >= 0):
        raise ValueError("round takes at most 127 digits")
    try:
        if name in PLAIN:
            return PLAIN[name](*given)
        if name in WHOLE:
            return getattr(math, name)(*given)
        if name in INEXACT:
            return getattr(math, name)(*map(float, given))
    except TypeError as error:
        raise ValueError(f"{name} cannot take {len(given)} arguments of this kind") from error
    known = ", ".join(("factorial", *PLAIN, *WHOLE, *INEXACT))
    raise ValueError(f"there is no function {name!r}, but {known}")


def _bits(number: Number) -> int:
    if isinstance(number, Fraction):
        return max(number.numerator.bit_length(), number.denominator.bit_length())
    return number.bit_length() if isinstance(number, int) else 64


def _bounded(number: Number) -> Number:
    if isinstance(number, complex) or (isinstance(number, float) and not math.isfinite(number)):
        raise ValueError("the result is no finite number")
    if _bits(number) > MOST_BITS:
        raise ValueError("the result is too large")
    return number


def _shown(number: Number) -> str:
    if isinstance(number, Fraction) and number.denominator == 1:
        number = number.numerator
    if isinstance(number, int):
        return str(number)
    return f"{float(number):.12g}"
