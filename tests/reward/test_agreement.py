"""Agreement place by place, by hand."""

import pytest

from backflip.reward.verifiers.agreement import Agreement


@pytest.mark.parametrize(
    ("answer", "reference", "share"),
    [
        ("1234", "1234", 1.0),
        ("1235", "1234", 0.75),
        ("12", "1234", 0.5),
        ("123499", "1234", 4 / 6),
        ("4321", "1234", 0.0),
        ("  12\n34 ", "12 34", 1.0),
    ],
)
def test_missing_surplus_and_wrong_characters_are_errors(answer, reference, share):
    verdict = Agreement().check(answer, reference, "", {})
    assert Agreement().score(verdict) == pytest.approx(share)
    assert (verdict.outcome == "correct") is (share == 1)


def test_words_are_places_too_and_nothing_is_unparsable():
    verdict = Agreement(unit="words").check("a red fox", "a fox red", "", {})
    assert Agreement().score(verdict) == pytest.approx(1 / 3)
    assert Agreement().check(" \n", "x", "", {}).outcome == "unparsable"
