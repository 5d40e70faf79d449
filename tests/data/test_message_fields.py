"""Fields of a message beside its text: heeded, written by the template, or refused by name."""

from __future__ import annotations

import json

import pytest

from backflip.data.chat import ChatTemplate
from backflip.data.collate import tokenize_comparisons, tokenize_demonstrations
from backflip.data.formats import load
from backflip.data.marks import remarks
from backflip.data.records import BadRecordError, Demonstration, Message, messages
from backflip.data.sources import write_jsonl
from backflip.data.writing import as_row
from backflip.errors import UserError
from tests.data.tiny import CHATML, GEMMA, TOOLS, byte_tokenizer

CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"town": "Rome"}'},
}
OFFERED = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]


def user(text, **more):
    return {"role": "user", "content": text, **more}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


def result(text, **more):
    return {"role": "tool", "content": text, "tool_call_id": "c1", **more}


@pytest.fixture
def loaded(tmp_path):
    def load_rows(rows, kind="demonstrations", **options):
        file = tmp_path / "rows.jsonl"
        write_jsonl(file, rows)
        return load(str(file), kind, **options)

    return load_rows


@pytest.fixture
def learnt(loaded):
    """(All tokens as text, those that are learnt as text) of one row under a template."""

    def tokens(row, template=TOOLS, **options):
        chat = ChatTemplate(byte_tokenizer(template))
        data = tokenize_demonstrations(loaded([row]).records, chat, **options).data
        prompt, answer = (s.row(0).tolist() for s in (data.steps.prompt, data.steps.answer))
        masked = [t for t, kept in zip(answer, data.mask[0].tolist(), strict=False) if kept]
        return chat.tokenizer.decode(prompt + answer), chat.tokenizer.decode(masked)

    return tokens


def test_a_message_without_a_content_says_which_fields_it_has(loaded):
    with pytest.raises(UserError, match="1 × a message has no content"):
        loaded([{"messages": [{"role": "user", "text": "hi"}, says("!")]}])


# ---- weight


@pytest.mark.parametrize("off", [{"weight": 0}, {"train": False}, {"loss": False}, {"weight": 0.0}])
def test_a_turn_of_weight_0_is_read_and_not_learnt(off, learnt):
    turns = [user("hi"), says("BAD", **off), user("again"), says("good", weight=1)]
    whole, kept = learnt({"messages": turns})
    assert "BAD" in whole
    assert kept == "good<|im_end|>"


def test_a_last_turn_of_weight_0_is_not_learnt_either(learnt):
    turns = [user("hi"), says("good"), user("again"), says("BAD", weight=0)]
    assert learnt({"messages": turns})[1] == "good<|im_end|>"
    with pytest.raises(UserError, match="no turn is learnt"):
        learnt({"messages": turns}, turns="last")


def test_a_weight_that_is_neither_0_nor_1_is_refused_by_name(loaded):
    with pytest.raises(UserError, match="the weight of a message is neither 0 nor 1"):
        loaded([{"messages": [user("hi"), says("so so", weight=0.5)]}])


def test_weights_count_in_answers_of_a_comparison_too(loaded):
    answers = {
        "chosen": [says("BAD", weight=0), user("No?"), says("good")],
        "rejected": [says("worse")],
    }
    chat = ChatTemplate(byte_tokenizer(CHATML))
    records = loaded([{"prompt": [user("hi")], **answers}], "comparisons").records
    data = tokenize_comparisons(records, chat).data
    tokens, mask = data.answers.values.answer.row(0).tolist(), data.mask.values[0].tolist()
    kept = [token for token, learnt in zip(tokens, mask, strict=False) if learnt]
    assert chat.tokenizer.decode(kept) == "good<|im_end|>"


# ---- tools and thoughts


def test_calls_results_and_tools_reach_a_template_that_knows_them(learnt):
    turns = [user("Weather?"), says("I look.", tool_calls=[CALL]), result("sun"), says("Sunny.")]
    whole, kept = learnt({"messages": turns, "tools": OFFERED})
    assert '"name": "get_weather", "parameters"' in whole
    assert "<result>sun</result>" in whole
    assert kept == ('I look.<call>get_weather {"town": "Rome"}</call><|im_end|>Sunny.<|im_end|>')


@pytest.mark.parametrize("given", [OFFERED, json.dumps(OFFERED), [OFFERED[0]["function"]]])
@pytest.mark.parametrize("system", ["", "Be brief."])
def test_tools_that_stand_in_a_message_are_those_of_the_conversation(given, system, learnt):
    turns = [{"role": "system", "content": system, "tools": given}, user("Hi"), says("Yes?")]
    whole, kept = learnt({"messages": turns})
    assert '"name": "get_weather", "parameters"' in whole
    assert kept == "Yes?<|im_end|>"
    with pytest.raises(UserError, match="does not write tools"):
        learnt({"messages": turns}, CHATML)


def test_two_offers_of_tools_in_one_conversation_are_refused(loaded):
    other = [{"name": "sing"}]
    turns = [user("Hi", tools=OFFERED), says("Yes?"), user("Sing", tools=other), says("La.")]
    for row in ({"messages": turns}, {"messages": turns[:2], "tools": other}):
        with pytest.raises(UserError, match="1 × different tools are offered in one conversation"):
            loaded([row])


def test_tools_in_a_message_of_one_answer_are_those_of_the_prompt(loaded):
    start = [{"role": "system", "content": "Be brief.", "functions": OFFERED}, user("Hi")]
    pair = {"chosen": [*start, says("Yes?")], "rejected": [*start, says("What?")]}
    assert '"get_weather"' in loaded([pair], "comparisons").records[0].prompt[0].tools


@pytest.mark.parametrize(
    "turn",
    [
        says(None, tool_calls=[CALL]),
        says("", tool_calls=[{"name": "get_weather", "arguments": {"town": "Rome", "no": None}}]),
        says(None, function_call=CALL["function"]),
        {"from": "function_call", "value": json.dumps(CALL["function"])},
        says("", tool_calls=json.dumps([CALL])),
    ],
)
def test_a_call_means_the_same_in_every_dialect(turn, learnt):
    """OpenAI writes arguments as text; templates write them as JSON themselves."""
    turns = [user("Weather?"), turn, {"role": "function", "content": "sun"}, says("Sunny.")]
    whole, kept = learnt({"messages": turns, "tools": json.dumps(OFFERED)})
    assert kept.startswith('<call>get_weather {"town": "Rome"}</call><|im_end|>')
    assert "<result>sun</result>" in whole


def test_several_results_stand_together_and_the_mask_stays_exact(learnt):
    calls = [CALL, CALL | {"id": "c2"}]
    turns = [user("?"), says("", tool_calls=calls), result("a"), result(""), says("Done.")]
    whole, kept = learnt({"messages": turns})
    assert "<result>a</result><result></result><|im_end|>" in whole
    assert kept.count("<call>") == 2
    assert kept.endswith("</call><|im_end|>Done.<|im_end|>")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_are_written_under_the_name_that_the_template_knows(name, learnt):
    _, kept = learnt({"messages": [user("2+2?"), says("4", **{name: "Two twos."})]})
    assert kept == "<think>Two twos.</think>4<|im_end|>"
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "4"}]
    assert learnt({"messages": [user("2+2?"), says(parts)]})[1] == "<think>Hm.</think>4<|im_end|>"


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"messages": [user("?"), says("", tool_calls=[CALL])]}, "tool_calls"),
        ({"messages": [user("?"), says("!")], "tools": OFFERED}, "tools"),
        ({"messages": [user("?"), says("!", reasoning_content="Hm.")]}, "reasoning"),
    ],
)
def test_a_template_that_would_drop_a_field_refuses_the_row_by_name(row, named, learnt):
    for template in (CHATML, GEMMA):
        with pytest.raises(UserError, match=f"1 × chat template 'tiny' does not write {named}"):
            learnt(row, template)


def test_a_template_that_drops_results_of_tools_is_found_out():
    """It writes the roles that it knows, and is silent about others."""
    silent = CHATML.replace("{{ '<|im_start|>'", "{% if m.role != 'tool' %}{{ '<|im_start|>'", 1)
    silent = silent.replace("{% endfor %}", "{% endif %}{% endfor %}", 1)
    talk = messages(("user", "?"), ("assistant", "I look."), ("tool", "sun"))
    with pytest.raises(BadRecordError, match="does not write results of tools"):
        ChatTemplate(byte_tokenizer(silent)).prompt(talk)


def test_what_a_template_leaves_out_without_harm_is_said_once(loaded):
    records = loaded([{"messages": [user("?", name="Ada"), says("!")]}] * 3).records
    said = list(remarks(records, ChatTemplate(byte_tokenizer(CHATML))))
    assert said == ["the template does not write name, which messages of 3 rows have"]
    (said,) = remarks(records[:1], ChatTemplate(byte_tokenizer(CHATML)))
    assert said.endswith("messages of 1 row have")


def test_tools_stay_with_a_system_message_that_is_folded_into_the_users():
    template = TOOLS.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if m.role == "
        "'system' %}{{ raise_exception('no system') }}{% endif %}",
        1,
    )
    chat = ChatTemplate(byte_tokenizer(template))
    talk = (Message("system", "Be brief.", tools=json.dumps(OFFERED)), Message("user", "?"))
    text = chat.tokenizer.decode(chat.prompt(talk))
    assert "get_weather" in text
    assert "Be brief.\n\n?" in text


# ---- the rest of a message


@pytest.mark.parametrize("empty", ["", "  \n", None])
def test_an_empty_system_message_is_none(empty, loaded):
    rows = [{"messages": [{"role": "system", "content": empty}, user("hi"), says("hello")]}]
    result = loaded(rows)
    assert result.records == [Demonstration(messages(("user", "hi"), ("assistant", "hello")))]
    assert not result.dropped


def test_text_that_is_templated_already_is_said(loaded):
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    rows = [
        {"prompt": prompt, "completion": "yo"},
        {"prompt": "[INST] Hi [/INST]", "completion": "a"},
    ]
    records = loaded([*rows, {"prompt": "Hi", "completion": "yo"}]).records
    (said,) = remarks(records, ChatTemplate(byte_tokenizer(CHATML)))
    assert said.startswith("2 of 3 rows hold control tokens of a template in their text")
    assert "<|im_start|>" in said
    assert "[INST]" in said


def test_a_record_with_calls_tools_and_weights_is_written_and_read_again(loaded):
    turns = [user("?"), says("", tool_calls=[CALL], weight=0), result("sun"), says("Sunny.")]
    record = loaded([{"messages": turns, "tools": OFFERED}]).records[0]
    again = loaded([as_row(record)]).records[0]
    assert again == record
    assert [m.learnt for m in again.messages] == [True, False, True, True]
    assert again.messages[0].tools == record.messages[0].tools != ""
