"""Numbers and their nouns: one is singular, nothing is rounded down to nothing."""

from __future__ import annotations

import pytest

from backflip.text import counted, magnitude, millions


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 rows"), (1, "1 row"), (1.0, "1 row"), (2, "2 rows"), (12345, "12,345 rows")],
)
def test_only_one_is_singular(number: float, said: str):
    assert counted(number, "row") == said


def test_a_noun_may_bring_its_verb_and_its_own_plural():
    assert counted(1, "entry is", "entries are") == "1 entry is"
    assert counted(3, "entry is", "entries are") == "3 entries are"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (134_515_008, "135 M"),
        (7_241_732_096, "7.24 B"),
        (11_272_192, "11.3 M"),
        (162_048, "0.2 M"),
        (21_504, "0.02 M"),
        (1_600, "0.002 M"),
        (64, "64"),
        (0, "0"),
    ],
)
def test_a_small_model_has_more_than_0_million_parameters(number: int, said: str):
    assert millions(number) == said
    assert number == 0 or not said.startswith(("0 ", "0.0 "))


def test_large_numbers_have_three_digits():
    assert [magnitude(n) for n in (950, 12_345, 61_234_567, 3e12)] == [
        "950", "12.3 k", "61.2 M", "3 T",
    ]  # fmt: skip
