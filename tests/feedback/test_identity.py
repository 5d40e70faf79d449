"""When two items are the same."""

from __future__ import annotations

from backflip.feedback.tasks.identity import identify
from backflip.feedback.tasks.items import payload_of
from tests.feedback.conftest import pair


def known(payload, kind="compare"):
    return identify(payload_of(payload, kind))


def turned(payload):
    return {**payload, "answers": payload["answers"][::-1]}


def test_a_pair_asked_the_other_way_round_is_the_same_pair():
    one, other = known(pair(1)), known(turned(pair(1)))
    assert one.digest == other.digest
    assert (one.left, one.right) == (other.right, other.left)
    assert (one.length, one.lists) == (-other.length, -other.lists)


def test_who_wrote_it_makes_no_difference_but_the_prompt_does():
    anonymous = {**pair(1), "answers": [{"text": a["text"]} for a in pair(1)["answers"]]}
    assert known(pair(1)).digest == known(anonymous).digest
    assert known(pair(1)).digest != known({**pair(1), "prompt": pair(2)["prompt"]}).digest


def test_white_space_at_the_ends_makes_no_other_answer():
    assert known(pair(1, a="same \r\n", b="same")).twins
    assert not known(pair(1, a="same", b="s ame")).twins


def test_an_answer_that_two_items_share_has_one_number():
    """Of the same prompt: triples can then be checked for circles."""
    one, other = known(pair(1, a="x", b="y")), known(pair(1, a="y", b="z"))
    assert one.right == other.left
    elsewhere = known({**pair(1, a="y", b="z"), "prompt": pair(2)["prompt"]})
    assert elsewhere.left != other.left


def test_features_counted_by_hand():
    marks = "- one\n  * two\n3. three\nnot - a mark\n4) four\n-no space"
    found = known(pair(1, a=marks, b="12"))
    assert found.lists == 4
    assert found.length == len(marks) - 2


def test_items_without_sides_are_told_apart_by_all_of_their_content():
    steps = {"prompt": [{"role": "user", "content": "q"}], "steps": ["a", "b"], "source": "m"}
    one = known(steps, "steps")
    assert (one.left, one.twins) == (None, False)
    assert one.digest == known({**steps, "source": "other"}, "steps").digest
    assert one.digest != known({**steps, "steps": ["b", "a"]}, "steps").digest
    assert (
        known({"principle": "p"}, "principles").digest
        != known({"principle": "q"}, "principles").digest
    )
