"""IFEval's 25 instructions: cases by hand, and the published verdicts on GPT-4's answers."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backflip.data import formats
from backflip.data.records import Prompt, messages
from backflip.reward.instructions.following import INSTRUCTIONS, Instruction, instructions_of
from backflip.reward.instructions.units import language
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.ifeval import IFEval

SHARED = Path(os.environ.get("BACKFLIP_SHARED", Path(__file__).parents[2].parent / "shared"))
LISTS = "* one\n- two\n   * three\n---\n**bold** line"
FOLLOWED: dict[str, tuple[dict[str, Any], str, str]] = {
    "keywords:existence": ({"keywords": ["C++", "fox"]}, "A FOX writes c++.", "A fox writes C."),
    "keywords:forbidden_words": ({"forbidden_words": ["rock", "c++"]}, "rocket", "C++ it is"),
    "keywords:frequency": (
        {"keyword": "war", "relation": "at least", "frequency": 2},
        "War and warmth",
        "war",
    ),
    "keywords:letter_frequency": (
        {"letter": "#", "let_relation": "less than", "let_frequency": 2},
        "#one",
        "# # three",
    ),
    "change_case:capital_word_frequency": (
        {"capital_relation": "less than", "capital_frequency": 2},
        "NASA flew. It's fine.",
        "I think I'm in the U.S.",
    ),
    "change_case:english_capital": (
        {},
        "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG AND RUNS AWAY.",
        "DER SCHNELLE BRAUNE FUCHS SPRINGT ÜBER DEN FAULEN HUND UND LÄUFT WEG.",
    ),
    "change_case:english_lowercase": (
        {},
        "the quick brown fox jumps over the lazy dog and runs away.",
        "The quick brown fox jumps over the lazy dog and runs away.",
    ),
    "language:response_language": (
        {"language": "de"},
        "Der schnelle braune Fuchs springt über den faulen Hund.",
        "The quick brown fox jumps over the lazy dog.",
    ),
    "length_constraints:number_words": (
        {"relation": "at least", "num_words": 3},
        "one two three",
        "one two",
    ),
    "length_constraints:number_sentences": (
        {"relation": "less than", "num_sentences": 3},
        "1. Dr. Who met J. Smith, e.g. here.\n2. He left at 5 p.m. on foot!",
        "One. Two? Three!",
    ),
    "punctuation:no_comma": ({}, "No such mark.", "Well, one."),
    "length_constraints:number_paragraphs": (
        {"num_paragraphs": 2},
        "One.\n***\nTwo.\n***\n",
        "One. *** *** Two.",
    ),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "First.\n\n\n\n'then', it went.",
        "First.\n\nThen.\n\nLast.",
    ),
    "detectable_content:number_placeholders": (
        {"num_placeholders": 2},
        "[name] lives in [street].",
        "[name\n] lives in [street].",
    ),
    "detectable_content:postscript": (
        {"postscript_marker": "P.P.S"},
        "Bye.\np. p. s. more",
        "Bye.\nP.S. more",
    ),
    "detectable_format:number_bullet_lists": ({"num_bullets": 3}, LISTS, LISTS + "\n- four"),
    "detectable_format:constrained_response": ({}, "I say: My answer is no.", "My answer: no."),
    "detectable_format:number_highlighted_sections": (
        {"num_highlights": 2},
        "*one* and **two**",
        "*one* and ** **",
    ),
    "detectable_format:multiple_sections": (
        {"section_spliter": "Part", "num_sections": 2},
        "Part 1\nx\nPart2\ny",
        "Part 1\npart 2",
    ),
    "detectable_format:json_format": ({}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    "detectable_format:title": ({}, "<<A Title>>\ntext", "<< >> text <<a\nb>> <<c> >"),
    "combination:two_responses": ({}, "One.\n******\nTwo.", "One.\n******\nOne."),
    "combination:repeat_prompt": (
        {"prompt_to_repeat": "Say it."},
        " say it. Then the answer",
        "I say it.",
    ),
    "startend:end_checker": ({"end_phrase": "Any more?"}, '"Well. any more?"', "Any more? No."),
    "startend:quotation": ({}, ' "Yes." ', '"'),
}


def test_the_cases_name_each_of_the_25():
    assert set(FOLLOWED) == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize("name", FOLLOWED)
def test_an_instruction_is_followed_or_not(name: str):
    settings, right, wrong = FOLLOWED[name]
    instruction = Instruction(name, settings)
    assert instruction.followed(right)
    assert not instruction.followed(wrong)
    assert not instruction.followed(" \n")
    assert not instruction.followed("", loose=True)


@pytest.mark.parametrize(
    ("answer", "strict", "loose"),
    [
        ('"Quoted."', True, True),
        ('Sure, here it is:\n"Quoted."', False, True),
        ('"Quoted."\nHope this helps!', False, True),
        ('Sure:\n"Quoted."\nBye', False, True),
        ('**"Quoted."**', False, True),
        ('So:\nhere:\n"Quoted."', False, False),
    ],
)
def test_loose_forgives_a_first_line_a_last_line_and_asterisks(
    answer: str, strict: bool, loose: bool
):
    quoted = Instruction("startend:quotation", {})
    assert (quoted.followed(answer), quoted.followed(answer, loose=True)) == (strict, loose)


TWO = {
    "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
    "kwargs": [{}, {"language": None}],
}


@pytest.mark.parametrize(
    ("answer", "verdict", "whole"),
    [
        ('"Yes."', Verdict("correct"), Verdict("correct")),
        ("Yes.", Verdict("scored", 0.5), Verdict("incorrect")),
        ("Yes, well.", Verdict("incorrect"), Verdict("incorrect")),
        ("", Verdict("incorrect"), Verdict("incorrect")),
    ],
)
def test_the_reward_is_the_share_of_instructions_or_all_of_them(answer, verdict, whole):
    assert IFEval().check(answer, "", "", TWO) == verdict
    assert IFEval(partial=False).check(answer, "", "", TWO) == whole


def test_loose_is_a_setting():
    fenced = '**"Yes."**'
    assert IFEval(loose=True).check(fenced, "", "", TWO) == Verdict("correct")
    assert IFEval().check(fenced, "", "", TWO) == Verdict("scored", 0.5)


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (["no:such"], [{}], "instruction 'no:such' is none of IFEval's 25"),
        (["keywords:existence"], [{}], "missing a required argument: 'keywords'"),
        (["startend:quotation"], [{"end": 1}], "unexpected keyword argument 'end'"),
        (["startend:quotation"], [], "two lists of one length"),
        ("startend:quotation", None, "two lists of one length"),
        ([], [], "two lists of one length"),
    ],
)
def test_what_cannot_be_checked_is_said(names, settings, said: str):
    row = {"instruction_id_list": names, "kwargs": settings}
    known, refused = instructions_of(row)
    assert known == []
    assert said in refused[0]
    record = Prompt(messages(("user", "Write.")), info=row)
    assert said in IFEval().lacks(record)
    assert IFEval().check("Yes.", "", "", row).outcome == "error"


def test_unknown_instructions_beside_known_ones_are_counted_and_left_out():
    mixed = {"instruction_id_list": ["no:such", "punctuation:no_comma"], "kwargs": [{}, {}]}
    records = [Prompt(messages(("user", "Write.")), info=row) for row in (mixed, TWO, mixed)]
    assert [IFEval().lacks(record) for record in records] == ["", "", ""]
    (remark,) = IFEval().remarks(records)
    assert "2 × instruction 'no:such' is none of IFEval's 25" in remark
    assert IFEval().check("Yes.", "", "", mixed) == Verdict("correct")


def test_numbers_of_a_table_and_a_word_in_place_of_a_list_are_taken():
    """Tables with gaps hold 2 as 2.0."""
    first = {"num_paragraphs": 2.0, "nth_paragraph": 2.0, "first_word": "b"}
    for name, settings, right, wrong in (
        ("length_constraints:nth_paragraph_first_word", first, "A.\n\nB.", "B.\n\nA."),
        ("detectable_format:number_bullet_lists", {"num_bullets": 1.0}, "* a", "a"),
        ("keywords:existence", {"keywords": "cat"}, "A cat.", "A tac."),
    ):
        (known,), _ = instructions_of({"instruction_id_list": [name], "kwargs": [settings]})
        assert known.followed(right)
        assert not known.followed(wrong)


def test_a_relation_that_nobody_knows_is_no_verdict():
    settings = {"relation": "about", "num_words": 3}
    with pytest.raises(ValueError, match="'about' is neither"):
        Instruction("length_constraints:number_words", settings).followed("one two three")


def test_the_prompt_file_is_read_as_it_is(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"key": 1, "prompt": "Write."} | TWO))
    (record,) = formats.load(str(tmp_path / "a.jsonl"), "prompts").records
    known, refused = instructions_of(record.info)
    assert [one.name for one in known] == TWO["instruction_id_list"]
    assert refused == []


def test_the_language_of_a_text_is_the_same_in_every_process():
    """Upstream's detection is not seeded, and short texts come out as they come."""
    texts = ("ok fine no", "la mano e il pane", "hej med dig alle")
    code = (
        "import sys; from backflip.reward.instructions.units import language;"
        "print(*map(language, sys.argv[1:]))"
    )
    said = subprocess.check_output([sys.executable, "-c", code, *texts], text=True)
    assert said.split() == [language(text) for text in texts]


# ---- agreement with the published verdicts

EXPLAINED = {
    (1122, "keywords:letter_frequency", "loose"): "upstream draws a letter where it is given '#'",
    (3456, "change_case:english_capital", "strict"): "names in capitals, told as German by chance",
    (3456, "change_case:english_capital", "loose"): "the same",
}


@pytest.fixture(scope="module")
def verdicts() -> list[tuple[dict[str, Any], list[Instruction]]]:
    path = SHARED / "data" / "ifeval_gpt4.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no published verdicts at {path}; set BACKFLIP_SHARED to the folder of them")
    with gzip.open(path) as lines:
        rows = [json.loads(line) for line in lines]
    read = [instructions_of(row) for row in rows]
    assert not any(refused for _, refused in read)
    return [(row, known) for row, (known, _) in zip(rows, read, strict=True)]


@pytest.mark.parametrize("how", ["strict", "loose"])
def test_verdicts_on_answers_of_gpt_4_are_the_published_ones(verdicts, how: str):
    """Of each instruction, and of each prompt, whose instructions all have to be followed."""
    differences, wrong_prompts, count = set(), 0, 0
    for row, known in verdicts:
        ours = [one.followed(row["response"], loose=how == "loose") for one in known]
        count += len(ours)
        wrong_prompts += all(ours) != all(row[how])
        differences |= {
            (row["key"], one.name, how)
            for one, mine, theirs in zip(known, ours, row[how], strict=True)
            if mine != theirs
        }
    assert differences <= EXPLAINED.keys()
    assert len(differences) <= 0.02 * count
    assert wrong_prompts <= 0.02 * len(verdicts)
