"""What need not be asked: rules by example, and what they dropped comes back at its rate."""

import numpy as np
import pytest

from backflip.feedback.choose.prescreen import (
    BROKEN,
    SAME,
    SURE_A,
    SURE_B,
    Screen,
    broken,
    confirmed,
    near_identical,
    prescreen,
    similarity,
)

WORDS = (
    "boil salt water pasta minutes because sauce tomato garlic slowly until tender then serve with"
)
LONG = " ".join(np.random.default_rng(0).choice(WORDS.split(), 400)) + " ab"
GOOD = "The capital of France is Paris, on the Seine."


def test_similarity_is_shared_shingles_over_all():
    assert similarity("one two three four", "one two three five") == pytest.approx(1 / 3)
    assert similarity("Yes!", "yes") == 1
    assert similarity("yes", "no") == 0
    assert similarity("", "…") == 1


def test_one_word_in_a_page_is_near_identical_but_a_number_or_a_not_is_another_answer():
    assert near_identical(LONG, LONG.replace(" ab", " cd"))
    assert near_identical(LONG, LONG + "\n\n")
    assert not near_identical(LONG + " It is 42.", LONG + " It is 43.")
    assert not near_identical(LONG + " It is safe.", LONG + " It is not safe.")
    assert not near_identical(GOOD, "Berlin.")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n…", "empty"),
        ("abc \ufffd\ufffd\ufffd def", "garbled"),
        ("x" + "\x00" * 9, "garbled"),
        ("ha " * 200, "looping"),
        (LONG + "I am so sorry, but I cannot. " * 60, "looping"),
        (GOOD, ""),
        (LONG, ""),
        ("No.", ""),
        ("line one\n\tline two\r\n" * 2, ""),
        ("东京是日本的首都。", ""),
    ],
)
def test_what_is_broken(text, why):
    assert broken(text) == why


def test_only_pairs_with_two_broken_answers_are_broken():
    found = prescreen(["", "", GOOD], ["ha " * 200, GOOD, LONG], screen=Screen(sample_back=0.0))
    assert found.rule == [BROKEN, "", ""]
    assert found.kept.tolist() == [False, True, True]


def test_a_judge_must_be_sure_with_all_its_voices():
    judge = np.array([[0.99, 0.99, 0.01, 0.5], [0.99, 0.6, 0.005, 0.5]])
    first, second = [GOOD] * 4, [LONG] * 4
    found = prescreen(first, second, judge=judge, screen=Screen(sure=0.98, sample_back=0.0))
    assert found.rule == [SURE_A, "", SURE_B, ""]
    assert prescreen(first, second, judge=judge, screen=Screen(sure=None)).kept.all()


def test_what_is_dropped_is_counted_shown_and_sampled_back_at_its_rate():
    n = 4000
    found = prescreen([GOOD] * n, [GOOD] * n, screen=Screen(sample_back=0.1))
    met, back = found.counts()[SAME]
    assert met == n
    assert back == pytest.approx(400, abs=4 * np.sqrt(360))
    assert found.kept.sum() == back
    shown = found.examples(SAME, 7)
    assert len(shown) == 7
    assert not found.kept[shown].any()


def test_a_pair_comes_back_or_not_whenever_it_is_looked_at():
    keys = np.arange(500, 700)
    screen = Screen(sample_back=0.3)
    once = prescreen([""] * 200, [""] * 200, keys=keys, screen=screen).back
    part = prescreen([""] * 50, [""] * 50, keys=keys[100:150], screen=screen).back
    assert once[100:150].tolist() == part.tolist()


def test_people_say_whether_a_rule_was_right():
    said = [(SAME, "tie")] * 8 + [(SAME, "a")] * 2 + [(SURE_A, "b"), (SURE_A, "cannot_tell")]
    found = confirmed([*said, ("", "a")])
    assert found[SAME].estimate == 0.8
    assert found[SURE_A].estimate == 0
    assert set(found) == {SAME, SURE_A}
