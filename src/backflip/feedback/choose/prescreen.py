"""Pairs that need no rater: left out beforehand, counted, shown and sampled back.

A person's minute is worth more than a rule's opinion, but not on two copies of one text. Every
rule is wrong sometimes: a set share of what it would drop is asked all the same, and ``confirmed``
says how often people agreed with the rule.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from backflip.feedback.choose.embedding import words
from backflip.feedback.statistics.judgements import Flags, Floats, Ints
from backflip.feedback.statistics.simulate import uniform
from backflip.functional.statistics import Interval, wilson

SAME, BROKEN = "near-identical", "both broken"
SURE_A, SURE_B = "judge sure of a", "judge sure of b"
ORIGIN = "screened: "
"""With the rule's name the origin of items that were sampled back."""
EXPECTED = {SAME: ("tie", "both_bad"), BROKEN: ("both_bad", "tie"), SURE_A: ("a",), SURE_B: ("b",)}
"""The verdict of people where the rule was right."""
SHINGLE = 3
"""Words of a shingle (Broder, 1997)."""
TAIL, SHORTEST, LOOPS = 1000, 200, 0.15
"""Characters of the end that may loop, fewest that can, and compressed share below which they do:
prose stays above 0.4."""
GARBLED = 0.05
"""Share of characters that are no text."""
_NUMBER = re.compile(r"\d+")
_NOT = re.compile(r"\b(?:not|no|never|nor|none|cannot|without)\b|n[’']t\b", re.IGNORECASE)
_STREAM = 91
"""Seed of the draws, apart from those of the arms."""


@dataclass(frozen=True)
class Screen:
    """Which rules, how strict, and how much of what they drop comes back."""

    alike: float | None = 0.9
    """Share of common shingles from which two answers are near-identical; none: the rule is off."""
    broken: bool = True
    """Whether pairs of two broken answers are left out."""
    sure: float | None = 0.98
    """P(side) of every judge from which nobody is asked; none: off. Needs a judge."""
    sample_back: float = 0.05
    """Share of what would be dropped that is asked all the same."""
    seed: int = 0


@dataclass(frozen=True)
class Screened:
    """Outcome of the screen for N pairs."""

    rule: list[str]
    """[N] The rule that would drop it; empty: none."""
    back: Flags
    """[N] Whether it is asked all the same."""

    @property
    def kept(self) -> Flags:
        """[N] What may be asked."""
        return np.array([not rule for rule in self.rule], np.bool_) | self.back

    def counts(self) -> dict[str, tuple[int, int]]:
        """For each rule how many pairs it met, and how many of them came back."""
        met = Counter(rule for rule in self.rule if rule)
        back = Counter(rule for rule, b in zip(self.rule, self.back, strict=True) if rule and b)
        return {rule: (count, back[rule]) for rule, count in met.most_common()}

    def examples(self, rule: str, count: int = 5) -> Ints:
        """Some pairs that the rule dropped, to look at."""
        dropped = [i for i, r in enumerate(self.rule) if r == rule and not self.back[i]]
        return np.array(dropped[:count], np.int64)


def prescreen(
    first: Sequence[str],
    second: Sequence[str],
    *,
    keys: Ints | None = None,
    judge: Floats | None = None,
    screen: Screen | None = None,
) -> Screened:
    """Try the rules on N pairs of texts; the first that applies counts.

    ``judge`` [M, N] are P(a) of one judge or several. ``keys`` [N] are the pairs' numbers, so that
    the same pair is sampled back or not whenever it is looked at.
    """
    screen = screen or Screen()
    sure = [""] * len(first) if judge is None else _sure(judge, screen.sure)
    rule = [
        _rule(a, b, screen) or certain for a, b, certain in zip(first, second, sure, strict=True)
    ]
    keys = np.arange(len(first)) if keys is None else keys
    drawn = uniform(screen.seed, _STREAM, keys) < screen.sample_back
    return Screened(rule, drawn & np.array([bool(r) for r in rule], np.bool_))


def _rule(a: str, b: str, screen: Screen) -> str:
    if screen.broken and broken(a) and broken(b):
        return BROKEN
    if screen.alike is not None and near_identical(a, b, screen.alike):
        return SAME
    return ""


def _sure(judge: Floats, bound: float | None) -> list[str]:
    if bound is None:
        return [""] * judge.shape[1]
    low, high = judge.min(0), judge.max(0)
    return [
        SURE_A if a >= bound else SURE_B if b <= 1 - bound else ""
        for a, b in zip(low, high, strict=True)
    ]


def near_identical(a: str, b: str, alike: float = 0.9) -> bool:
    """Whether two texts share nearly all their shingles (Jaccard), and every number and negation.

    One digit or one "not" in a page makes another answer, so these must agree exactly.
    """
    if similarity(a, b) < alike:
        return False
    same_numbers = Counter(_NUMBER.findall(a)) == Counter(_NUMBER.findall(b))
    return same_numbers and len(_NOT.findall(a)) == len(_NOT.findall(b))


def similarity(a: str, b: str) -> float:
    """Shared shingles over all shingles of two texts, 0 to 1; 1 where neither has a word."""
    left, right = _shingles(a), _shingles(b)
    return len(left & right) / len(left | right) if left or right else 1.0


def _shingles(text: str) -> set[tuple[str, ...]]:
    found = [word for word in words(text) if word[0].isalnum()]
    if len(found) < SHINGLE:
        return {tuple(found)} if found else set()
    return set(zip(*(found[i:] for i in range(SHINGLE)), strict=False))


def broken(text: str) -> str:
    """The fault of a text that no reader can judge: empty, garbled or looping; else empty."""
    if not any(char.isalnum() for char in text):
        return "empty"
    odd = sum(char == "\ufffd" or unicodedata.category(char) in ("Cc", "Cn", "Co") for char in text)
    if odd - sum(text.count(space) for space in "\n\r\t") > GARBLED * len(text):
        return "garbled"
    tail = text[-TAIL:].encode("utf-8", "surrogatepass")
    if len(tail) >= SHORTEST and len(zlib.compress(tail)) < LOOPS * len(tail):
        return "looping"
    return ""


def confirmed(said: Iterable[tuple[str, str]]) -> dict[str, Interval]:
    """How often people agreed with a rule, of what was sampled back: (rule, word) for each answer.

    ``word`` is what was said: a, b, tie, both_bad; "cannot_tell" counts nothing.
    """
    right, asked = Counter[str](), Counter[str]()
    for rule, word in said:
        if rule in EXPECTED and word != "cannot_tell":
            asked[rule] += 1
            right[rule] += word in EXPECTED[rule]
    return {rule: wilson(right[rule], count) for rule, count in asked.items()}
