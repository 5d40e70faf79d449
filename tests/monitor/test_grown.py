"""Phrases that grew, and no others."""

from backflip.monitor.grown import grown


def test_a_phrase_that_came_up_is_told_whole_and_once():
    before = [f"the answer number {n} is here" for n in range(40)]
    after = [f"great question my friend the answer number {n} is here" for n in range(40)]
    found = grown(before, after)
    assert [p.words for p in found] == ["great question my friend"]
    assert (found[0].before, found[0].after) == (0, 40)


def test_what_stayed_and_what_chance_explains_is_not_told():
    same = ["yes it is", "no it is not", "perhaps"] * 10
    assert grown(same, same) == []
    assert grown(["a b"] * 20, ["a b"] * 19 + ["c d"]) == []
    assert grown([], same) == []
