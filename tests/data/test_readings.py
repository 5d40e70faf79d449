"""The first rows as a model reads them: the template's text, and the learnt tokens told apart."""

from __future__ import annotations

import pytest

from backflip.data.chat import ChatTemplate
from backflip.data.collate import tokenize_demonstrations
from backflip.data.readings import first_readings, readings
from backflip.data.records import Comparison, Demonstration, Labelled, Prompt, messages
from tests.data.tiny import CHATML, byte_tokenizer

TALK = messages(("user", "Hé?"), ("assistant", "Yes."), ("user", "Bye."), ("assistant", "So long."))
ASKED, SAID, OTHER = TALK[:1], messages(("assistant", "Yes.")), messages(("assistant", "No."))
OPENING = "<|im_start|>user\nHé?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def template() -> ChatTemplate:
    return ChatTemplate(byte_tokenizer(CHATML))


def learnt(reading):
    return [text for text, own in reading.spans if own]


def test_of_a_demonstration_every_turn_of_the_assistant_is_learnt(template):
    (one,) = first_readings([Demonstration(TALK)], template)
    assert learnt(one) == ["Yes.<|im_end|>", "So long.<|im_end|>"]
    whole = "".join(text for text, _ in one.spans)
    rows = [{"role": m.role, "content": m.content} for m in TALK]
    said = template.tokenizer.apply_chat_template(rows, chat_template=CHATML, tokenize=False)
    assert said.startswith(whole)


def test_what_a_recipe_does_not_learn_is_not_marked(template):
    records = [Demonstration(TALK)]
    made = tokenize_demonstrations(records, template, turns="last")
    (one,) = readings(made, records, template.tokenizer)
    assert learnt(one) == ["So long.<|im_end|>"]


def test_of_a_comparison_the_prompt_is_shown_once_and_each_answer_by_its_place(template):
    first, second = first_readings([Comparison(ASKED, (OTHER, SAID), (1, 0))], template)
    assert [first.about, second.about] == ["rejected", "chosen"]
    assert first.spans == ((OPENING, False), ("No.<|im_end|>", True))
    assert learnt(second) == ["Yes.<|im_end|>"]
    assert OPENING not in second.spans[0][0]


def test_labels_and_prompts(template):
    (bad,) = first_readings([Labelled(ASKED, SAID, label=False)], template)
    assert (bad.about, learnt(bad)) == ("bad", ["Yes.<|im_end|>"])
    (prompt,) = first_readings([Prompt(ASKED)], template)
    assert prompt.spans == ((OPENING, False),)


def test_rows_that_do_not_fit_are_not_shown(template):
    long = Prompt(messages(("user", "word " * 99)))
    (one,) = first_readings([long, Prompt(ASKED)], template, max_length=80)
    assert one.spans == ((OPENING, False),)
    assert first_readings([], template) == ()
