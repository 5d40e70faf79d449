"""Which held-out prompts a summary shows: by their place, never by their score."""

from __future__ import annotations

from backflip.stages.prompt_eval import shown_rows


def test_every_tenth_of_fifty_from_the_first():
    rows, rule = shown_rows(50)
    assert rows == [0, 10, 20, 30, 40]
    assert rule == (
        "Held-out prompts 1, 11, 21, 31, 41 of 50, chosen by their place; "
        "the same random numbers before and after."
    )


def test_few_prompts_are_all_shown_and_none_twice():
    assert shown_rows(3)[0] == [0, 1, 2]
    assert shown_rows(0)[0] == []
    assert shown_rows(1)[1].startswith("The only held-out prompt;")
    for count in range(1, 40):
        rows, _ = shown_rows(count)
        assert len(set(rows)) == len(rows) == min(5, count)
        assert rows[0] == 0
        assert max(rows) < count
