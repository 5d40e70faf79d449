"""Public formats, each from a row written by hand to the record it means."""

from __future__ import annotations

import pytest

from backflip.data.formats import load
from backflip.data.records import Comparison, Demonstration, Message, Prompt, messages
from backflip.data.sources import write_jsonl
from backflip.data.writing import as_row
from backflip.errors import UserError

ASK, YES, NO = "Is it late?", "Yes, go to bed.", "No."
ASKED = messages(("user", ASK))
GOOD, BAD = messages(("assistant", YES)), messages(("assistant", NO))


def turn(role, content):
    return {"role": role, "content": content}


@pytest.fixture
def loaded(tmp_path):
    def load_rows(rows, kind, **options):
        file = tmp_path / "rows.jsonl"
        write_jsonl(file, rows)
        return load(str(file), kind, **options)

    return load_rows


U, A, B = turn("user", ASK), turn("assistant", YES), turn("assistant", NO)
HH = f"\n\nHuman: {ASK}\n\nAssistant:"
PAIRS = {
    "TRL, standard, explicit": {"prompt": ASK, "chosen": f" {YES}", "rejected": f" {NO}"},
    "TRL, standard, implicit": {"chosen": f"{ASK} {YES}", "rejected": f"{ASK} {NO}"},
    "TRL, conversational, explicit": {"prompt": [U], "chosen": [A], "rejected": [B]},
    "TRL, conversational, implicit": {"chosen": [U, A], "rejected": [U, B]},
    "UltraFeedback": {"prompt": ASK, "chosen": [U, A], "rejected": [U, B]},
    "HH-RLHF": {"chosen": f"{HH} {YES}", "rejected": f"{HH} {NO}"},
    "HH-RLHF, explicit": {"prompt": HH, "chosen": f" {YES}", "rejected": f" {NO}"},
    "ShareGPT": {
        "chosen": [{"from": "human", "value": ASK}, {"from": "gpt", "value": YES}],
        "rejected": [{"from": "human", "value": ASK}, {"from": "gpt", "value": NO}],
    },
    "blocks": {
        "prompt": [{"role": "user", "content": [{"type": "text", "text": ASK}]}],
        "chosen": [A],
        "rejected": [B],
    },
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_means_the_same_in_every_format(name, loaded):
    result = loaded([PAIRS[name]], Comparison)
    assert result.records == [Comparison(ASKED, (GOOD, BAD), (0, 1))]
    assert not result.dropped


def test_hh_turns_become_messages_and_the_shared_ones_the_prompt(loaded):
    shared = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Is it late?\n\nAssistant: "
    record = loaded([{"chosen": shared + YES, "rejected": shared + NO}], "comparisons").records[0]
    assert record.prompt == messages(("user", "Hi"), ("assistant", "Hello.")) + ASKED
    assert record.answers == (GOOD, BAD)


def test_conversations_that_part_at_the_user_share_the_turns_before_the_assistants_last(loaded):
    """The prompt must end with the user, so the answer begins one turn before they part."""
    hello = turn("assistant", "Hello.")
    row = {
        "chosen": [turn("user", "Hi"), hello, U, A],
        "rejected": [turn("user", "Hi"), hello, turn("user", "Bye"), B],
    }
    record = loaded([row], "comparisons").records[0]
    assert record.prompt == messages(("user", "Hi"))
    assert record.answers[0] == (Message("assistant", "Hello."), *ASKED, *GOOD)


def test_a_prompt_never_ends_between_two_messages_of_the_assistant(loaded):
    """Where it speaks twice in a row, both messages are its answer."""
    hello = turn("assistant", "Hello.")
    record = loaded([{"chosen": [U, hello, A], "rejected": [U, hello, B]}], "comparisons").records[
        0
    ]
    assert record.prompt == ASKED
    assert record.answers[0] == (Message("assistant", "Hello."), *GOOD)


def test_an_implicit_prompt_in_text_ends_with_a_whole_word(loaded):
    """4 and 42 begin alike; the answers are 4 and 42, not nothing and 2."""
    rows = [{"chosen": "The answer is 42", "rejected": "The answer is 4"}]
    record = loaded(rows, "comparisons").records[0]
    assert record.prompt == messages(("user", "The answer is"))
    assert [answer[0].content for answer in record.answers] == ["42", "4"]


def test_code_keeps_its_indentation(loaded):
    rows = [{"prompt": "def f():", "completion": "    return 1"}]
    record = loaded(rows, "demonstrations").records[0]
    assert record.messages[-1].content == "    return 1"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"margin": 0.5}, {"margin": 0.5}),
        ({"strength": 2}, {"margin": 2.0}),
        ({"strength": "slightly better"}, {"margin": 1 / 3}),
        ({"p_chosen": 0.75}, {"soft": 0.75}),
        ({"p_chosen": 0.25}, {"rank": (1, 0), "soft": 0.75}),
        ({"p_chosen": 0.5}, {"rank": (0, 0), "soft": 0.5}),
        ({"tie": True}, {"rank": (0, 0), "soft": 0.5}),
        ({"tie": False, "margin": None}, {}),
        ({"weight": 2}, {"weight": 2.0}),
    ],
)
def test_strength_soft_labels_and_ties_are_read(extra, expected, loaded):
    row = {"prompt": ASK, "chosen": YES, "rejected": NO} | extra
    fields = {"rank": (0, 1)} | expected
    assert loaded([row], "comparisons").records == [Comparison(ASKED, (GOOD, BAD), **fields)]


@pytest.mark.parametrize(
    ("judged", "rank"),
    [
        ({"rank": [2, 0, 1]}, (2, 0, 1)),
        ({"rank": [1, 1, 3]}, (0, 0, 1)),
        ({"scores": [0.1, 9.0, 0.1]}, (1, 0, 1)),
        ({"ratings": [4, 5, 3]}, (1, 0, 2)),
    ],
)
def test_a_ranking_of_k_has_0_for_the_best_and_ties_where_judged_equal(judged, rank, loaded):
    row = {"prompt": ASK, "completions": ["a", "b", "c"], **judged}
    record = loaded([row], "comparisons").records[0]
    assert record.rank == rank
    assert [answer[0].content for answer in record.answers] == ["a", "b", "c"]


def test_a_system_column_comes_first_unless_there_is_a_system_message(loaded):
    rows = [
        {"system": "Be brief.", "prompt": ASK, "completion": YES},
        {"system": "Be brief.", "prompt": [turn("system", "Be long."), U], "completion": [A]},
    ]
    first, second = loaded(rows, "demonstrations").records
    assert first.messages == (Message("system", "Be brief."), *ASKED, *GOOD)
    assert second.messages[0].content == "Be long."


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": ASK, "completion": YES}, ASKED + GOOD),
        ({"prompt": [U], "completion": [A]}, ASKED + GOOD),
        ({"messages": [U, A]}, ASKED + GOOD),
        (
            {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": YES}]},
            ASKED + GOOD,
        ),
        ({"text": YES}, GOOD),
        ({"text": f"{HH} {YES}"}, ASKED + GOOD),
    ],
)
def test_a_demonstration_means_the_same_in_every_format(row, expected, loaded):
    assert loaded([row], Demonstration).records == [Demonstration(expected)]


def test_a_bad_answer_of_unpaired_feedback_is_never_imitated(loaded):
    rows = [
        {"prompt": ASK, "completion": YES, "label": True},
        {"prompt": ASK, "completion": NO, "label": False},
    ]
    result = loaded(rows, "demonstrations")
    assert result.records == [Demonstration(ASKED + GOOD)]
    assert result.dropped.counts == {"answer labelled bad": 1}


def test_comparisons_serve_as_demonstrations_of_the_best_answer_and_say_so(loaded):
    rows = [{"prompt": ASK, "completions": [NO, YES], "scores": [1, 2]}]
    result = loaded(rows, "demonstrations")
    assert result.records == [Demonstration(ASKED + GOOD)]
    assert result.converted == "1 comparison read as 1 demonstration (the best answer of each)"
    assert loaded(rows, "prompts").records == [Prompt(ASKED)]


def test_prompts_cannot_become_comparisons(loaded):
    with pytest.raises(UserError, match="holds prompts, and comparisons are needed"):
        loaded([{"prompt": ASK}], "comparisons")


def test_every_row_that_is_left_out_is_counted_with_its_reason_and_place(loaded, tmp_path):
    rows = [
        {"prompt": ASK, "chosen": YES, "rejected": NO},
        {"prompt": ASK, "chosen": YES, "rejected": "  "},
        {"prompt": ASK, "chosen": YES, "rejected": YES},
        {"prompt": "", "chosen": YES, "rejected": NO},
        {"prompt": ASK, "chosen": YES},
        {"prompt": ASK, "chosen": 3, "rejected": NO},
        {"prompt": ASK, "chosen": YES, "rejected": NO, "margin": "much"},
        {"chosen": [U, A], "rejected": [turn("user", "Else"), B]},
        {"chosen": [U, A, U], "rejected": [U, B]},
        {"prompt": ASK, "chosen": YES, "rejected": None},
    ]
    result = loaded(rows, "comparisons")
    assert len(result.records) == 1
    assert result.rows == len(rows)
    assert result.dropped.counts == {
        "empty answer": 2,
        "answers are identical": 1,
        "empty prompt": 1,
        "no column 'rejected', which format preference needs": 1,
        "column 'chosen' holds a value of type int where an answer is expected": 1,
        "column 'margin' is not a number": 1,
        "answers belong to different prompts": 1,
        "conversation ends with the user": 1,
    }
    assert result.dropped.examples["empty prompt"] == [f"{tmp_path / 'rows.jsonl'}:4"]


def test_strict_reading_stops_at_the_first_row_that_cannot_be_used(loaded):
    rows = [{"messages": [U, A]}, {"messages": [U, A, U]}]
    assert len(loaded(rows, "demonstrations").records) == 1
    with pytest.raises(UserError, match=r"rows.jsonl:2: conversation ends with the user: the last"):
        loaded(rows, "demonstrations", strict=True)


def test_data_without_a_usable_row_is_an_error_that_says_why(loaded, tmp_path):
    with pytest.raises(UserError, match="no usable demonstrations: 1 × conversation ends with"):
        loaded([{"messages": [U]}], "demonstrations")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="is empty: write one row a line"):
        load(str(tmp_path / "empty.jsonl"), "prompts")


def test_an_unknown_format_names_the_columns_seen_and_those_expected(loaded):
    with pytest.raises(UserError, match=r"Columns seen: ask, say\. .*prompt .*completion.*data.md"):
        loaded([{"ask": ASK, "say": YES}], "demonstrations")
    with pytest.raises(
        UserError, match="format='hhh' is not known; use one of ultrafeedback, nectar"
    ):
        loaded([{"text": YES}], "demonstrations", format="hhh")
    with pytest.raises(UserError, match="kind 'pairs' is not known; use demonstrations"):
        loaded([{"text": YES}], "pairs")


def test_a_named_format_goes_before_the_one_that_the_columns_suggest(loaded):
    row = {"prompt": ASK, "chosen": YES, "rejected": NO, "text": "Plain."}
    assert loaded([row], "demonstrations").format == "preference"
    forced = loaded([row], "demonstrations", format="text")
    assert forced.records == [Demonstration(messages(("assistant", "Plain.")))]


@pytest.mark.parametrize(
    "record",
    [
        Prompt(ASKED),
        Demonstration(ASKED + GOOD, weight=0.5),
        Demonstration(GOOD),
        Comparison(ASKED, (BAD, GOOD), (1, 0), soft=0.75, weight=2.0),
        Comparison(ASKED, (GOOD, BAD), (0, 1), margin=1.0),
        Comparison(ASKED, (GOOD, BAD), (0, 0), soft=0.5),
        Comparison(ASKED, (GOOD, BAD, GOOD + ASKED + BAD), (1, 0, 1)),
    ],
)
def test_a_record_written_and_read_again_is_the_same_but_for_the_order_of_a_pair(record, loaded):
    again = loaded([as_row(record)], type(record)).records[0]
    if isinstance(record, Comparison):
        assert dict(zip(again.answers, again.rank, strict=True)) == dict(
            zip(record.answers, record.rank, strict=True)
        )
        assert (again.prompt, again.margin, again.soft, again.weight) == (
            record.prompt,
            record.margin,
            record.soft,
            record.weight,
        )
    else:
        assert again == record


def test_the_hh_file_is_read_as_it_is(hh_file):
    """1,700 rows, of which three answers are empty."""
    result = load(hh_file, "comparisons")
    assert result.format == "hh"
    assert (result.rows, len(result.records)) == (1700, 1697)
    assert result.dropped.counts == {"empty answer": 3}
    assert all(record.prompt[-1].role == "user" for record in result.records)
