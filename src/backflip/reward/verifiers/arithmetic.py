"""Exact values of constant expressions: fractions, powers, factorials, decimals, percentages."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

__all__ = ["Value", "same_values", "value_of"]

SMALL = Fraction(1, 1000)
"""Decimals below it are compared by their ratio: of 1e-34, six places hold nothing."""
TOLERANCE = Fraction(1, 1_000_000)
LONGEST = 2000
"""Characters of an expression that is read."""
BITS = 500_000
"""Length of the largest power; beyond it an expression has no value here."""
FACTORIAL = 5000
TOKEN = re.compile(
    r"\s*(\d+(?:\.\d*)?|\.\d+|\*\*|\\(?:left|right)?[{}]|\\?[A-Za-z]+|[-+*/^(){}\[\]!%]|\\?\S)"
)
TIMES, OVER = ("*", r"\cdot", r"\times"), ("/", r"\div")
FRACTION = (r"\frac", r"\binom", r"\dbinom", r"\tbinom")
SILENT = (r"\left", r"\right", r"\,", r"\;", r"\!", r"\ ", r"\displaystyle")


@dataclass(frozen=True)
class Value:
    """A rational number, and how it was written."""

    number: Fraction
    decimal: bool = False
    """Whether a decimal stands in it, which may be rounded."""
    percent: bool = False
    """Whether it ends in a percent sign; the number is a hundredth then."""


def value_of(piece: str) -> Value | None:
    """The value of a constant expression; None where it holds anything else, or is too large."""
    if len(piece) > LONGEST:
        return None
    try:
        return _Reader(piece).whole()
    except (ValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None


def same_values(ours: Value, theirs: Value) -> bool:
    """Whether two values are one: exactly, or to six places where one of them is a decimal.

    A percentage agrees with its hundredth and with the bare number: 50% with 0.5 and 50.
    """
    if ours.percent and not theirs.percent:
        bare = replace(ours, number=ours.number * 100, percent=False)
        return same_values(bare, theirs) or same_values(replace(ours, percent=False), theirs)
    if theirs.percent and not ours.percent:
        return same_values(theirs, ours)
    one, other = ours.number, theirs.number
    if one == other or not (ours.decimal or theirs.decimal):
        return one == other
    if one.denominator == 1 and other.denominator == 1:
        return False
    if max(abs(one), abs(other)) < SMALL:
        return bool(one) and abs(other / one - 1) < TOLERANCE
    return round(one, 6) == round(other, 6)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or size * abs(exponent) > BITS:
        raise ValueError("a root, or a power too large")
    return base ** int(exponent)


def _factorial(number: Fraction) -> Fraction:
    if number.denominator != 1 or not 0 <= number <= FACTORIAL:
        raise ValueError("no factorial")
    return Fraction(math.factorial(int(number)))


def _root(number: Fraction) -> Fraction:
    above, below = math.isqrt(max(number.numerator, 0)), math.isqrt(number.denominator)
    if Fraction(above * above, below * below) != number:
        raise ValueError("no whole root")
    return Fraction(above, below)


def _binomial(above: Fraction, below: Fraction) -> Fraction:
    if above.denominator != 1 or below.denominator != 1 or not min(above, below) >= 0:
        raise ValueError("no binomial coefficient")
    if above > FACTORIAL:
        raise ValueError("too large")
    return Fraction(math.comb(int(above), int(below)))


class _Reader:
    """A reader of sums, products, powers and brackets, by recursive descent."""

    def __init__(self, piece: str) -> None:
        self.tokens = [token for token in TOKEN.findall(piece) if token not in SILENT]
        self.at = 0
        self.decimal = self.percent = False

    def whole(self) -> Value:
        number = self.sum()
        if self.at < len(self.tokens):
            raise ValueError(f"{self.tokens[self.at]} is no arithmetic")
        return Value(number, self.decimal, self.percent and self.tokens[-1] == "%")

    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """The next token where it is one of those that are wanted; else empty."""
        token = self.next()
        self.at += token in wanted and token != ""
        return token if token in wanted else ""

    def sum(self) -> Fraction:
        total = self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            total += term if sign == "+" else -term
        return total

    def product(self) -> Fraction:
        total = self.signed()
        while True:
            if self.take(*TIMES):
                total *= self.signed()
            elif self.take(*OVER):
                total /= self.signed()
            elif self.next() == "(":
                total *= self.signed()
            else:
                return total

    def signed(self) -> Fraction:
        if sign := self.take("+", "-"):
            number = self.signed()
            return number if sign == "+" else -number
        base = self.marked()
        return _power(base, self.exponent()) if self.take("^", "**") else base

    def exponent(self) -> Fraction:
        sign = self.take("+", "-")
        number = self.group() if self.next() == "{" else self.signed()
        return -number if sign == "-" else number

    def marked(self) -> Fraction:
        number = self.primary()
        while mark := self.take("!", "%"):
            if mark == "!":
                number = _factorial(number)
            else:
                self.percent, number = True, number / 100
        return number

    def primary(self) -> Fraction:
        token = self.next()
        if token in ("(", "{"):
            return self.group()
        self.at += 1
        if token in FRACTION:
            above, below = self.argument(), self.argument()
            return above / below if token == r"\frac" else _binomial(above, below)
        if token == r"\sqrt" and self.next() != "[":
            return _root(self.argument())
        if not token or token[0] not in ".0123456789":
            raise ValueError(f"{token} is no number")
        self.decimal |= "." in token
        return Fraction(token)

    def group(self) -> Fraction:
        end = {"(": ")", "{": "}"}[self.next()]
        self.at += 1
        number = self.sum()
        if not self.take(end):
            raise ValueError(f"no {end}")
        return number

    def argument(self) -> Fraction:
        r"""A group, or the first digit of what follows: of \frac43 the 4 and the 3."""
        token = self.next()
        if not token.isdigit():
            return self.group() if token in ("{", "(") else self.primary()
        rest = token[1:]
        self.tokens[self.at : self.at + 1] = [token[0], *([rest] if rest else [])]
        self.at += 1
        return Fraction(token[0])
