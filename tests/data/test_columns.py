"""Columns: which is the prompt, which were read, and a word about each that was not."""

from __future__ import annotations

import pytest

from backflip.data.audit import audit
from backflip.data.chat import ChatTemplate
from backflip.data.formats import load
from backflip.data.marks import remarks
from backflip.data.records import Message, messages
from backflip.errors import UserError
from tests.data.tiny import CHATML, byte_tokenizer

ASK, YES, NO = "Is it late?", "Yes, it is.", "Yes, maybe."
BOTH = {"chosen": YES, "rejected": NO}
U, A, B = ({"role": r, "content": c} for r, c in zip("uab", (ASK, YES, NO), strict=True))
U, A, B = U | {"role": "user"}, A | {"role": "assistant"}, B | {"role": "assistant"}


# ---- the prompt


@pytest.mark.parametrize("name", ["prompt", "question", "query", "input", "instruction", "problem"])
def test_the_prompt_is_read_by_its_usual_names(name, loaded):
    """Both answers begin with "Yes," which is nobody's prompt."""
    result = loaded([{name: ASK, **BOTH, "id": "7"}])
    assert result.records[0].prompt == messages(("user", ASK))
    assert [answer[0].content for answer in result.records[0].answers] == [YES, NO]
    assert result.unread == {"id": 1}
    assert (f"prompt is read from {name}" in result.notes) == (name != "prompt")


def test_an_instruction_and_its_input_are_one_prompt(loaded):
    rows = [{"instruction": "Translate.", "input": text, **BOTH} for text in ("Hund", "", None)]
    asked = [record.prompt[0].content for record in loaded(rows).records]
    assert asked == ["Translate.\n\nHund", "Translate.", "Translate."]
    assert not loaded(rows).unread


@pytest.mark.parametrize("other", [{"headline": ASK}, {"turns": [ASK]}, {"post": {"text": ASK}}])
def test_no_prompt_is_made_up_beside_a_column_that_may_be_it(other, loaded):
    column = next(iter(other))
    with pytest.raises(
        UserError, match=rf"without a prompt.*data.columns.prompt={column}.*data.md"
    ):
        loaded([{**other, **BOTH}])


def test_a_later_row_with_text_of_its_own_is_left_out_where_first_words_are_the_prompt(loaded):
    result = loaded([BOTH, {**BOTH, "topic": "time"}])
    assert [record.prompt[0].content for record in result.records] == ["Yes,"]
    assert result.dropped.counts == {"no prompt, but columns that may be it: topic": 1}
    assert "the prompt is the words that both answers begin with" in result.notes


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("missing", [{"prompt": None}, {}])
def test_a_row_without_a_prompt_is_left_out_and_counted(at, missing, loaded):
    rows = [{"prompt": f"{ASK} {n}", **BOTH} for n in range(2)]
    rows.insert(at, {**missing, **BOTH})
    if at == 0 and not missing:
        return  # The first row settles the format, and has nothing but two answers.
    result = loaded(rows)
    assert [record.prompt[0].content for record in result.records] == [f"{ASK} 0", f"{ASK} 1"]
    assert result.dropped.total == 1
    assert next(iter(result.dropped)).startswith("no prompt")


def test_the_first_row_settles_which_column_is_the_prompt(loaded):
    """A null in it is not made good by another column."""
    result = loaded(
        [{"question": ASK, "input": "x", **BOTH}, {"question": None, "input": "x"} | BOTH]
    )
    assert len(result.records) == 1
    assert result.dropped.counts == {"no prompt: column 'question' is null": 1}
    assert result.unread == {"input": 1}


def test_any_column_can_be_named_as_any_other(loaded):
    row = {"topic": {"ask": ASK}, "good": YES, "bad": NO, "prompt": "Not this.", "gap": 2}
    columns = {"prompt": "topic.ask", "chosen": "good", "rejected": "bad", "margin": "gap"}
    result = loaded([row], columns=columns)
    assert result.records[0].prompt == messages(("user", ASK))
    assert result.records[0].margin == 2
    assert result.unread == {"prompt": 1}
    with pytest.raises(
        UserError, match=r"columns.prompt=ask, but there is no column 'ask'; .*topic"
    ):
        loaded([row], columns={"prompt": "ask"})
    talk = loaded([{"dialogue": [U, A]}], "demonstrations", columns={"messages": "dialogue"})
    assert talk.records[0].messages == messages(("user", ASK), ("assistant", YES))


def test_names_of_columns_may_be_written_in_any_case(loaded):
    result = loaded([{"Prompt": ASK, "CHOSEN": YES, "Rejected": NO, "ID": 3}])
    assert result.records[0].prompt == messages(("user", ASK))
    assert result.unread == {"ID": 1}


def test_rows_inside_one_column_are_read_there_and_said(loaded):
    result = loaded([{"id": 1, "data": {"prompt": ASK, **BOTH}}])
    assert result.records[0].prompt == messages(("user", ASK))
    assert result.notes == ("rows are read from inside the column data",)
    assert result.unread == {"id": 1}


@pytest.mark.parametrize(
    ("prompt", "before", "said"),
    [
        (f"{ASK}\n", [U], True),
        (ASK, [{"role": "system", "content": "Be brief."}, U], True),
        ([U], [U, A, {"role": "user", "content": "Sure?"}], True),
        ("Another question", [U], False),
    ],
)
def test_conversations_that_repeat_their_prompt_are_believed(prompt, before, said, loaded):
    """What they share is the prompt, whatever the column prompt has of it."""
    row = {"prompt": prompt, "chosen": [*before, A], "rejected": [*before, B]}
    result = loaded([row])
    assert result.records[0].prompt == tuple(Message(m["role"], m["content"]) for m in before)
    assert [answer[0].content for answer in result.records[0].answers] == [YES, NO]
    assert bool(result.notes) != said


@pytest.mark.parametrize("nothing", [None, float("nan"), [], "  "])
def test_a_prompt_that_says_nothing_is_left_out_as_such(nothing, loaded):
    result = loaded([{"prompt": nothing, **BOTH}, {"prompt": ASK, **BOTH}])
    (reason,) = result.dropped.counts
    assert reason.startswith(("no prompt", "empty prompt"))
    assert len(result.records) == 1


def test_not_a_number_is_null_in_every_column(loaded):
    """As tables of pandas write what is missing."""
    result = loaded([{"prompt": ASK, **BOTH, "margin": float("nan"), "note": float("nan")}])
    assert result.records[0].margin == 0
    assert not result.unread


@pytest.mark.parametrize(
    "history", [[["Hi", "Hello."]], [{"role": "user", "content": "Hi"}, A | {"content": "Hello."}]]
)
def test_a_history_stands_before_what_is_asked(history, loaded):
    """LLaMA-Factory's pairs of a question and an answer, or messages."""
    row = {"instruction": ASK, "input": "", "system": "Be brief.", "history": history}
    before = messages(("user", "Hi"), ("assistant", "Hello."))
    system, asked = messages(("system", "Be brief."), ("user", ASK))
    compared = loaded([row | BOTH, row | BOTH | {"history": []}])
    assert [r.prompt for r in compared.records] == [(system, *before, asked), (system, asked)]
    assert not compared.unread
    (shown,) = loaded([row | {"output": YES}], "demonstrations").records
    assert shown.messages == (system, *before, asked, Message("assistant", YES))


# ---- transcripts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("lead", ["", "\n\n", " "])
@pytest.mark.parametrize("between", ["\n\n", "\n", "\n \n ", "\n\n\t"])
def test_transcripts_are_told_by_their_speakers_however_lines_end(end, lead, between, loaded):
    start = f"{lead}Human: {ASK}{between}Assistant: Well?{between}Human: Now!{between}Assistant:"
    rows = [{"chosen": f"{start} {YES}", "rejected": f"{start} {NO}"}]
    rows = [{name: text.replace("\n", end) for name, text in row.items()} for row in rows]
    record = loaded(rows).records[0]
    assert record.prompt == messages(("user", ASK), ("assistant", "Well?"), ("user", "Now!"))
    assert record.answers[0] == messages(("assistant", YES))


@pytest.mark.parametrize("between", ["\n\n", "\r\n\r\n"])
def test_text_before_the_first_turn_of_a_transcript_is_the_systems(between, loaded):
    start = f"Be brief.{between}Human: {ASK}{between}Assistant:"
    record = loaded([{"chosen": f"{start} {YES}", "rejected": f"{start} {NO}"}]).records[0]
    assert record.prompt == messages(("system", "Be brief."), ("user", ASK))
    assert record.answers[0] == messages(("assistant", YES))


def test_speakers_who_are_not_told_apart_are_said(loaded):
    start = f"### Human: {ASK}\n\n### Assistant:"
    rows = [{"chosen": f"{start} {YES}", "rejected": f"{start} {NO}"}] * 2
    said = " ".join(remarks(loaded(rows).records, ChatTemplate(byte_tokenizer(CHATML))))
    assert "2 of 2 rows hold" in said
    assert "### Human:" in said


@pytest.mark.parametrize("sign", ["<image>", "<|image_pad|>", "[IMG]"])
def test_the_place_of_a_picture_in_a_text_is_said(sign, loaded):
    turns = [{"role": "user", "content": f"{sign} What is this?"}, A]
    records = loaded([{"messages": turns}, {"messages": [U, A]}], "demonstrations").records
    said = " ".join(remarks(records, ChatTemplate(byte_tokenizer(CHATML))))
    assert "1 of 2 rows holds the place of a picture" in said
    assert sign in said


def test_text_that_begins_with_a_speakers_name_is_no_transcript(loaded):
    row = {"prompt": "Human: a short history", "completion": YES}
    assert loaded([row], "demonstrations").records[0].prompt[0].content == row["prompt"]


# ---- what nobody reads


def test_all_that_is_not_used_is_named_once_with_its_rows(loaded):
    rows = [
        {"messages": [U | {"id": "a"}, A], "source": "web", "empty": None, "tags": []},
        {"messages": [U, A | {"score": 3}], "source": "web"},
    ]
    result = loaded(rows, "demonstrations")
    assert result.unread == {"messages[].id": 1, "source": 2, "messages[].score": 1}
    assert result.unread_line() == (
        "not used: messages[].id (1 row), source, messages[].score (1 row)"
    )
    assert audit(result).said == result.unread_line()


def test_a_very_wide_table_names_some_columns_in_training_and_all_in_a_check(loaded):
    result = loaded(
        [{"prompt": ASK, "completion": YES} | {f"c{n}": n for n in range(300)}], "prompts"
    )
    assert result.unread_line().endswith("c18, c19 and 280 more")
    assert audit(result).said.endswith("c298, c299")


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"images": ["0.png"]}, "images"),
        ({"image_url": "https://example.org/0.png"}, "image_url"),
        ({"Audio": {"path": "0.wav", "bytes": None}}, "Audio"),
        ({"clip": {"array": [0.0], "sampling_rate": 16000}}, "clip"),
        ({"image_0": "0.png"}, "image_0"),
        ({"Question Image": "https://example.org/0"}, "Question Image"),
        ({"image_id": "COCO_000139"}, "image_id"),
        ({"screenshot": [None, "0"]}, "screenshot"),
        ({"jpg": "0"}, "jpg"),
        ({"file_name": "train/0.PNG"}, "file_name"),
        ({"page": "https://example.org/0.jpeg?size=2"}, "page"),
        ({"page": "data:image/png;base64,AAAA"}, "page"),
        ({"sources": [{"url": "0.mp4"}]}, "sources"),
    ],
)
def test_rows_with_other_media_are_left_out_by_name(row, column, loaded):
    plain = {
        "messages": [U, A],
        "image": None,
        "images": [None, ""],
        "image_caption": "A cat",
        "has_image": "no",
        "image_count": 2,
        "page": "See 0.png.",
    }
    result = loaded([plain, {"messages": [U, A], **row}], "demonstrations")
    assert result.dropped.counts == {f"something other than text (column '{column}')": 1}


def test_an_answer_that_names_a_picture_is_text(loaded):
    rows = [{"question": "Which file holds the logo?", "answer": "logo.png"}]
    assert loaded(rows, "demonstrations").records[0].messages[1].content == "logo.png"


def test_pictures_among_the_fields_of_a_message_are_named(loaded):
    seen = {"role": "user", "content": ASK, "images": ["0.png"]}
    unseen = {**seen, "images": []}
    result = loaded([{"messages": [unseen, A]}, {"messages": [seen, A]}], "demonstrations")
    assert result.dropped.counts == {"a message holds something other than text ('images')": 1}


def test_a_part_of_a_message_that_is_no_text_is_named(loaded):
    parts = [{"type": "text", "text": ASK}, {"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(UserError, match=r"other than text .a part of type 'image_url'"):
        loaded([{"messages": [{"role": "user", "content": parts}, A]}], "demonstrations")


def test_what_is_no_demonstration_says_which_columns_there_were(loaded):
    with pytest.raises(UserError, match=r"holds prompts.*seen: question, remark.*data.columns"):
        loaded([{"question": ASK, "remark": YES}], "demonstrations")


def test_a_table_with_null_cells_and_mixed_case_is_read(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("Question,Chosen,Rejected,Margin,note\nWhat?,a,b,0.5,x\n,a,b,1,\n")
    result = load(str(file), "comparisons")
    assert result.records[0].margin == 0.5
    assert len(result.records) == 1
    assert result.dropped.total == 1
    assert result.unread == {"note": 1}


def test_a_row_of_another_form_in_the_same_file_is_counted(loaded):
    rows = [{"prompt": ASK, **BOTH}, {"messages": [U, A]}, {"text": YES}]
    result = loaded(rows)
    assert len(result.records) == 1
    assert result.dropped.counts == {"no column 'chosen', which format preference needs": 2}
