"""Numbers and their nouns: one is singular, nothing is rounded down to nothing."""

from __future__ import annotations

import pytest

from backflip.text import counted, duration, fixed, magnitude, millions, percent, signed


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


@pytest.mark.parametrize(
    ("share", "digits", "printed"),
    [
        (0.125, 0, "12 %"),
        (0.125, 1, "12.5 %"),
        (1.0, 0, "100 %"),
        (-0.25, 0, "−25 %"),
        (-1e-9, 0, "0 %"),
    ],
)
def test_a_share_is_printed_in_percent_with_a_real_minus_sign(share, digits, printed):
    assert percent(share, digits) == printed


def test_a_number_has_a_real_minus_sign_and_nothing_has_none():
    assert [fixed(x, 2) for x in (-0.004, -0.126, 12.0)] == ["0.00", "−0.13", "12.00"]
    assert [signed(x, 1) for x in (0.34, -1.26)] == ["+0.3", "−1.3"]


def test_a_length_of_time_has_its_two_largest_units():
    assert [duration(x) for x in (-1, 44.6, 200, 7500)] == [
        "0 s",
        "45 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
