"""Thumbs up and down: from the rows of a log to tokens, and into other kinds of record."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit, mismatched, tokenize_labelled
from backflip.data.conversions import MOST_ANSWERS, convert
from backflip.data.formats import kind_of, load
from backflip.data.records import (
    Comparison,
    Demonstration,
    Labelled,
    Message,
    Prompt,
    Provenance,
    messages,
)
from backflip.data.sources import write_jsonl
from backflip.data.splits import split_by_prompt
from backflip.data.writing import as_row
from backflip.errors import UserError

ASK, YES, NO = "Is it late?", "Yes, go to bed.", "No."
ASKED = messages(("user", ASK))
GOOD, BAD = messages(("assistant", YES)), messages(("assistant", NO))
U, A = {"role": "user", "content": ASK}, {"role": "assistant", "content": YES}


@pytest.fixture
def loaded(tmp_path):
    def load_rows(rows, kind=Labelled, **options):
        file = tmp_path / "rows.jsonl"
        write_jsonl(file, rows)
        return load(str(file), kind, **options)

    return load_rows


def said(text):
    return messages(("assistant", text))


def judged(number, answer, label, **more):
    return Labelled(messages(("user", f"Question {number}?")), said(answer), label, **more)


# ---- rows


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK, "completion": f" {YES}", "label": True},
        {"prompt": [U], "completion": [A], "label": 1},
        {"messages": [U, A], "label": True},
        {"messages": [U, A], "thumb": "up"},
        {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": YES}]}
        | {"rating": 1},
        {"prompt": ASK, "response": YES, "feedback": "like"},
        {"prompt": ASK, "response": YES, "feedback": None, "rating": "👍🏽"},
    ],
)
def test_a_good_answer_means_the_same_in_every_format(row, loaded):
    result = loaded([row])
    assert result.records == [Labelled(ASKED, GOOD, label=True)]
    assert result.converted == ""


@pytest.mark.parametrize("good", [True, 1, 1.0, "👍", "+1", "up", "Thumbs up", "thumbs_up", "LIKE"])
@pytest.mark.parametrize("column", ["thumb", "feedback", "rating"])
def test_a_thumb_up_in_many_words(good, column, loaded):
    assert loaded([{"prompt": ASK, "response": YES, column: good}]).records[0].label is True


@pytest.mark.parametrize(
    "bad", [False, -1, -1.0, "👎", "-1", "\u22121", "down", ":thumbsdown:", "dislike", "false"]
)
def test_a_thumb_down_in_many_words(bad, loaded):
    assert loaded([{"messages": [U, A], "thumb": bad}]).records[0].label is False


def test_what_is_neither_up_nor_down_is_counted_under_its_reason(loaded):
    up = {"prompt": ASK, "response": YES, "thumb": "up"}
    others = [None, 0, "neutral", "", "", 3, "so so", ["up"]]
    result = loaded([up, *({**up, "thumb": value} for value in others)])
    assert len(result.records) == 1
    assert result.rows == 9
    assert result.dropped.counts == {
        "no thumb": 5,
        "column 'thumb' holds a score instead of a thumb": 1,
        "column 'thumb' holds text that is no thumb": 1,
        "column 'thumb' holds something that is no thumb": 1,
    }


def test_a_label_is_true_or_false_and_all_else_is_counted(loaded):
    row = {"prompt": ASK, "completion": YES}
    values = [True, 0, "false", "0", None, 2, -1, "maths", [1]]
    result = loaded([{**row, "label": value} for value in values])
    assert [record.label for record in result.records] == [True, False, False, False]
    assert result.dropped.counts == {
        "no label": 1,
        "column 'label' is neither true nor false": 4,
    }


def test_stars_are_refused_because_a_single_one_is_no_thumb_up(loaded):
    """1 of 5 would be learnt as good."""
    rows = [{"messages": [U, A], "rating": stars} for stars in (1, 5, 4)]
    for kind in (Labelled, Demonstration):
        with pytest.raises(UserError, match=r"2 × column 'rating' holds a score.*write a column"):
            loaded(rows, kind)
    assert len(loaded(rows, Demonstration, format="messages").records) == 3


def test_comments_and_classes_beside_conversations_are_no_labels(loaded):
    for more in ({"feedback": "Nice, but long."}, {"label": "maths"}):
        result = loaded([{"messages": [U, A]} | more], Demonstration)
        assert result.format == "messages"
        assert len(result.records) == 1


def test_the_last_answer_of_a_conversation_is_the_one_that_was_judged(loaded):
    turns = [U, A, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    (record,) = loaded([{"messages": turns, "thumb": "down", "system": "Be brief."}]).records
    assert record.answer == said("So.")
    assert record.prompt == (
        Message("system", "Be brief."),
        *ASKED,
        *GOOD,
        Message("user", "Why?"),
    )


def test_a_conversation_without_a_question_or_without_an_answer_is_counted(loaded):
    fine = {"messages": [U, A], "label": True}
    rows = [{"messages": [U], "label": True}, {"messages": [A], "label": True, "system": "Be."}]
    assert loaded([fine, *rows]).dropped.counts == {
        "conversation ends with the user": 1,
        "empty prompt": 1,
    }


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": ASK, "completion": YES, "label": True}, "labelled"),
        ({"prompt": ASK, "response": YES, "thumb": "up"}, "labelled"),
        ({"prompt": ASK, "completion": YES}, "demonstrations"),
        ({"prompt": ASK, "chosen": YES, "rejected": NO, "label": 1}, "comparisons"),
        ({"prompt": ASK, "completions": [YES, NO], "rank": [0, 1]}, "comparisons"),
        ({"text": YES}, "demonstrations"),
        ({"prompt": ASK}, "prompts"),
    ],
)
def test_the_kind_of_a_source_is_that_of_its_format(row, kind, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [row])
    assert kind_of(str(tmp_path / "rows.jsonl")) == kind
    assert kind_of("nowhere", "hh") == "comparisons"


def test_a_source_without_rows_has_no_kind(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="is empty"):
        kind_of(str(tmp_path / "empty.jsonl"))


@pytest.mark.parametrize(
    "record",
    [
        Labelled(ASKED, GOOD, label=False, weight=0.5),
        Labelled(ASKED, GOOD + ASKED + BAD, label=True),
        Comparison(ASKED, (BAD, GOOD), (1, 0), win=(0.25, 0.75)),
        Comparison(ASKED, (GOOD, BAD, said("So?")), (1, 0, 1), win=(0.5, 0.9, 0.1)),
    ],
)
def test_labels_and_win_probabilities_survive_being_written_and_read_again(record, loaded):
    (again,) = loaded([as_row(record)], type(record)).records
    if isinstance(record, Labelled):
        assert again == record
        return
    for field in ("win", "rank"):
        one, two = (dict(zip(r.answers, getattr(r, field), strict=True)) for r in (record, again))
        assert one == two


@pytest.mark.parametrize(
    ("win", "reason"),
    [
        ([0.5], "win probabilities and answers differ in number"),
        ([0.5, 1.5], "win probability out of range"),
        ("0.5", "column 'win' is not a list of numbers"),
    ],
)
def test_win_probabilities_that_cannot_be_are_counted(win, reason, loaded):
    row = {"prompt": ASK, "chosen": YES, "rejected": NO}
    assert loaded([row, {**row, "win": win}], Comparison).dropped.counts == {reason: 1}


# ---- conversions


def test_a_pair_becomes_a_good_and_a_bad_answer(loaded):
    rows = [
        {"prompt": ASK, "chosen": YES, "rejected": NO, "weight": 2},
        {"prompt": ASK, "chosen": YES, "rejected": NO, "tie": True},
    ]
    result = loaded(rows)
    assert result.records == [
        Labelled(ASKED, GOOD, label=True, weight=2.0),
        Labelled(ASKED, BAD, label=False, weight=2.0),
    ]
    assert result.rows == 2
    assert result.dropped.counts == {"tie": 1}
    assert result.converted == (
        "1 comparison read as 2 labelled answers (the best answers good, the others bad)"
    )


def test_of_k_answers_the_best_are_good_and_the_others_bad(loaded):
    rows = [{"prompt": ASK, "completions": ["a", "b", "c", "d"], "rank": [1, 0, 2, 0]}]
    assert [record.label for record in loaded(rows).records] == [False, True, False, True]


def test_answers_to_the_same_prompt_become_one_comparison_of_good_against_bad():
    records = [
        judged(0, "a", True, weight=2.0),
        judged(1, "x", False),
        judged(0, "b", False, weight=1.0),
        judged(0, "c", True, weight=3.0),
        judged(2, "y", True),
    ]
    made = convert(records, Comparison)
    (one,) = made.records
    assert dict(zip(one.answers, one.rank, strict=True)) == {
        said("a"): 0,
        said("c"): 0,
        said("b"): 1,
    }
    assert one.weight == 2.0
    assert made.dropped.counts == {
        "no good answer to its prompt": 1,
        "no bad answer to its prompt": 1,
    }
    assert made.said == (
        "3 labelled answers read as 1 comparison (good against bad answers to the same prompt)"
    )


def test_copies_count_once_and_contradictions_not_at_all():
    records = [judged(0, *row) for row in [("a", True), ("a", True), ("b", False)]]
    records += [judged(0, "c", True), judged(0, "c", False)]
    made = convert(records, Comparison)
    assert [record.answers for record in made.records] == [(said("a"), said("b"))]
    assert made.dropped.counts == {
        "the same answer is labelled good and bad": 2,
        "the same answer and label once more": 1,
    }


@given(good=st.integers(1, 40), bad=st.integers(1, 40))
def test_many_answers_are_dealt_out_so_that_each_comparison_has_both_kinds(good, bad):
    records = [judged(0, f"good {n}", True) for n in range(good)]
    records += [judged(0, f"bad {n}", False) for n in range(bad)]
    made = convert(records, Comparison).records
    assert {answer for one in made for answer in one.answers} == {r.answer for r in records}
    for one in made:
        assert set(one.rank) == {0, 1}
        assert len(one.answers) <= MOST_ANSWERS + 1


def test_comparisons_made_into_labels_and_back_are_the_same_comparisons():
    there = [
        Comparison(messages(("user", f"Q{n}?")), (said(f"a{n}"), said(f"b{n}")), (0, 1))
        for n in range(5)
    ]
    assert convert(convert(there, Labelled).records, Comparison).records == there


def test_labels_serve_as_demonstrations_of_the_good_and_as_prompts(loaded):
    rows = [
        {"prompt": ASK, "response": YES, "thumb": "up"},
        {"prompt": ASK, "response": NO, "thumb": "down"},
    ]
    result = loaded(rows, "demonstrations")
    assert result.records == [Demonstration(ASKED + GOOD)]
    assert result.dropped.counts == {"answer labelled bad": 1}
    assert result.converted == "1 labelled answer read as 1 demonstration (the good ones)"
    assert loaded(rows, "prompts").records == [Prompt(ASKED), Prompt(ASKED)]
    with pytest.raises(UserError, match="1 × answer labelled bad"):
        loaded(rows, "demonstrations", strict=True)


def test_what_says_nothing_of_good_and_bad_cannot_become_labels(loaded):
    for row in ({"prompt": ASK}, {"prompt": ASK, "completion": YES}):
        with pytest.raises(UserError, match="labelled answers cannot be made out of them"):
            loaded([row])


# ---- tokens


@pytest.fixture
def template(tokenizers):
    return ChatTemplate(tokenizers["chatml"])


def test_every_prompt_keeps_its_answer_and_gets_one_to_another_prompt(template):
    records = [judged(n, f"Answer {n}.", n % 2 == 0, weight=n + 1.0) for n in range(7)]
    data = tokenize_labelled(records, template, seed=3).data
    assert data.label.tolist() == [n % 2 == 0 for n in range(7)]
    assert data.weight.tolist() == [n + 1.0 for n in range(7)]
    own = [row.tolist() for row in data.steps.answer.rows()]
    foreign = [row.tolist() for row in data.mismatched.answer.rows()]
    assert sorted(own) == sorted(foreign)
    assert all(a != b for a, b in zip(own, foreign, strict=True))
    for prompts in (data.steps.prompt, data.mismatched.prompt):
        assert [row.tolist() for row in prompts.rows()] == [
            template.prompt(record.prompt) for record in records
        ]
    assert data.mismatched_mask.sum(-1).tolist() == data.mismatched.answer.lengths.tolist()


def test_the_pairs_depend_on_the_seed_and_on_nothing_else(template):
    records = [judged(n, f"Answer {n}.", n % 2 == 0) for n in range(30)]

    def pairs(seed):
        data = tokenize_labelled(records, template, seed=seed).data
        return [row.tolist() for row in data.mismatched.answer.rows()]

    first = pairs(0)
    torch.manual_seed(99)
    assert pairs(0) == first
    assert pairs(1) != first


@given(prompts=st.lists(st.integers(0, 5), min_size=2, max_size=40), seed=st.integers(0, 5))
def test_the_fewest_possible_answers_go_to_their_own_prompt(prompts, seed):
    """A prompt with m of n rows cannot do with less than 2m − n of its own answers."""
    taken = mismatched(prompts, seed=seed)
    assert sorted(taken) == list(range(len(prompts)))
    assert all(row != other for row, other in enumerate(taken))
    same = sum(prompts[row] == prompts[other] for row, other in enumerate(taken))
    most = max(Counter(prompts).values())
    assert same == max(0, 2 * most - len(prompts))


def test_a_lonely_answer_is_its_own_stranger():
    assert mismatched(["a"]) == [0]


def test_a_prompt_beside_a_long_foreign_answer_loses_its_start_and_the_answer_nothing(template):
    long, short = "So. " * 12, "No."
    records = [
        Labelled(messages(("user", "Is it late? " * 4)), said(short), label=False),
        Labelled(messages(("user", "Hi")), said(long), label=True),
    ]
    whole = tokenize_labelled(records, template).data
    limit = int((whole.steps.prompt.lengths + whole.steps.answer.lengths).max())
    sizes = whole.mismatched.prompt.lengths + whole.mismatched.answer.lengths
    assert int(sizes.max()) > limit, "the foreign pair must be the one that does not fit"
    result = tokenize_labelled(records, template, fit=Fit(limit))
    cut = result.data.mismatched
    assert (result.kept, result.cut, result.dropped.total) == ((0, 1), 0, 0)
    assert int((cut.prompt.lengths + cut.answer.lengths).max()) == limit
    assert cut.answer.row(0).tolist() == whole.steps.answer.row(1).tolist()
    length = len(cut.prompt.row(0))
    assert cut.prompt.row(0).tolist() == whole.steps.prompt.row(0).tolist()[-length:]


def test_what_is_dropped_is_nobodys_stranger(template):
    records = [judged(n, "word " * (60 if n == 1 else 2) + str(n), n % 2 == 0) for n in range(5)]
    result = tokenize_labelled(records, template, fit=Fit(50))
    assert result.kept == (0, 2, 3, 4)
    assert int(result.data.mismatched.answer.lengths.max()) < 50


def test_labels_are_split_by_prompt():
    records = [judged(n % 20, f"a {n}", n % 3 == 0, where=Provenance("x", n)) for n in range(60)]
    train, apart = split_by_prompt(records, held_out=0.3)
    assert len(train) + len(apart) == 60
    assert not {r.prompt for r in train} & {r.prompt for r in apart}
