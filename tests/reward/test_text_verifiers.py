"""Verifiers of a text alone, in any script: length, language, repetition, citation."""

from __future__ import annotations

from typing import Any

import pytest

from backflip.data.records import Prompt, messages
from backflip.errors import UserError
from backflip.reward.instructions.units import characters, sentences, words
from backflip.reward.verifiers.citation import Citation
from backflip.reward.verifiers.language import Language
from backflip.reward.verifiers.length import Length
from backflip.reward.verifiers.repetition import Repetition
from backflip.stages.rewards.context import checkable

ENGLISH = "The weather was fine in the morning, but it rained for the whole of the afternoon."
GERMAN = "Am Morgen war das Wetter schön, aber am Nachmittag hat es die ganze Zeit geregnet."


@pytest.mark.parametrize(
    ("text", "count", "seen", "parts"),
    [
        ("", 0, 0, 0),
        ("don't stop", 3, 10, 1),
        ("你好世界。我是谁？", 7, 9, 2),
        ("हिन्दी में लिखें। ठीक।", 4, 13, 2),
        ("مرحبا بالعالم؟ نعم.", 3, 19, 2),
        ("👨‍👩‍👧👍🏽🇩🇪❤️", 0, 4, 0),
        ("e\u0301te\u0301", 1, 3, 1),
        ("It cost 3.50 in the U.S. Mint. Really?! Yes...", 11, 46, 3),
        ("See:\n1. One thing.\n2. Another", 6, 29, 2),
        ("He said “Stop.” Then he left. and so on", 9, 39, 3),
    ],
)
def test_words_characters_and_sentences_in_any_script(text, count, seen, parts):
    assert (len(words(text)), characters(text), len(sentences(text))) == (count, seen, parts)


def checked(verifier: Any, answer: str, prompt: str = "", **info: Any) -> Any:
    verdict = verifier.check(answer, "", prompt, info)
    return verdict.outcome if verdict.score is None else pytest.approx(verdict.score)


@pytest.mark.parametrize(
    ("settings", "answer", "outcome"),
    [
        ({"most": 3}, "one two three", "correct"),
        ({"most": 3}, "one two three four", "incorrect"),
        ({"least": 2, "most": 3}, "one", "incorrect"),
        ({"least": 4}, "one two three four", "correct"),
        ({"most": 3}, " \n", "unparsable"),
        ({"most": 3}, "", "unparsable"),
        ({"most": 3}, "😀😀😀😀", "incorrect"),  # no word at all
        ({"most": 4, "unit": "characters"}, " 😀😀😀😀 ", "correct"),
        ({"most": 3, "unit": "characters"}, "four", "incorrect"),
        ({"least": 2, "most": 2, "unit": "sentences"}, "你好。我是谁？", "correct"),
    ],
)
def test_length_lies_within_bounds(settings: dict[str, Any], answer: str, outcome: str):
    assert checked(Length(**settings), answer) == outcome


@pytest.mark.parametrize(
    ("code", "answer", "outcome"),
    [
        ("en", ENGLISH, "correct"),
        ("en", ENGLISH.upper(), "correct"),
        ("en", GERMAN, "incorrect"),
        ("de", GERMAN, "correct"),
        ("zh", "今天早上天气很好，但是下午一直在下雨。", "correct"),
        ("zh-tw", "今天早上天气很好，但是下午一直在下雨。", "incorrect"),
        ("en", "", "unparsable"),
        ("en", "12:30 😀 42", "unparsable"),
    ],
)
def test_the_language_is_the_one_that_was_asked_for(code: str, answer: str, outcome: str):
    assert checked(Language(language=code), answer) == outcome
    assert checked(Language(), answer, language=code) == outcome
    assert checked(Language(column="code"), answer, code=code.upper()) == outcome


@pytest.mark.parametrize(
    ("settings", "answer", "outcome"),
    [
        ({}, ENGLISH, "correct"),
        ({}, "I am here. " * 10, "incorrect"),
        ({"most": 0.0, "n": 2}, "a b c a b", "incorrect"),
        ({"most": 0.25, "n": 2}, "a b c A, b", "correct"),  # one of four: a b
        ({"partial": True, "n": 2}, "a b c a b", 0.75),
        ({"partial": True, "n": 1}, "a a a a", 0.25),
        ({}, "", "unparsable"),
        ({}, "two words", "unparsable"),
        ({}, "😀😀😀😀😀😀😀😀", "unparsable"),
        ({"unit": "characters"}, "😀😀😀😀😀😀😀😀", "incorrect"),
        ({"unit": "characters", "most": 0.7, "n": 2}, "สวัสดี สวัสดี", "correct"),
        ({"unit": "characters"}, "hahahahahaha", "incorrect"),
    ],
)
def test_repetition_is_the_share_of_n_grams_seen_before(settings, answer: str, outcome):
    assert checked(Repetition(**settings), answer) == outcome


SOURCE = (
    "The quick brown fox — so they say — jumps over\nthe 'lazy' dog. 敏捷的棕色狐狸跳过了懒狗。"
)


@pytest.mark.parametrize(
    ("settings", "answer", "outcome"),
    [
        ({}, 'They wrote: "the quick   brown\nfox."', "correct"),
        ({}, "They wrote: “The Quick Brown Fox - so they say -”,", "correct"),
        ({}, "Sie schrieben: „jumps over the ‘lazy’ dog“.", "correct"),
        ({}, "« quick brown fox » et « over the 'lazy' dog »", "correct"),
        ({}, "原文「敏捷的棕色狐狸」。", "correct"),
        ({}, "原文「棕色猫」。", "incorrect"),
        ({}, "As said:\n> The quick brown fox\n> [...] over the 'lazy' dog.\nSo it is.", "correct"),
        ({}, '"quick … lazy dog"', "incorrect"),  # the dog is 'lazy'
        ({}, '"the quick ... over the"', "correct"),
        ({}, '"over the ... quick brown fox"', "incorrect"),  # in the other order
        ({}, '"the quick brown cat"', "incorrect"),
        ({}, '"uick brown fo"', "incorrect"),  # not word by word
        ({"case": True}, '"the quick brown fox"', "incorrect"),
        ({}, '"quick brown fox" and "a fine dog"', "incorrect"),
        ({"partial": True}, '"quick brown fox" and "a very fine dog"', 0.5),
        ({"partial": True, "least": 4}, '"quick brown fox" and "brown fox"', 0.25),
        ({"least": 2}, '"quick brown fox"', "incorrect"),
        ({}, 'The "fox" jumps over the 5" fence.', "unparsable"),  # a name is no quotation
        ({"words": 1}, 'The "fox" jumps.', "correct"),
        ({}, "The quick brown fox jumps.", "unparsable"),
        ({}, '""', "unparsable"),
        ({}, "", "unparsable"),
        ({}, "😀 “😀😀😀”", "unparsable"),
    ],
)
def test_quotations_stand_in_the_source(settings: dict[str, Any], answer: str, outcome):
    assert checked(Citation(**settings), answer, SOURCE) == outcome
    in_column = Citation(source="text", **settings)
    assert checked(in_column, answer, "", text=SOURCE) == outcome
    assert checked(in_column, answer, "", text=["Another text.", SOURCE]) == outcome


@pytest.mark.parametrize(
    ("verifier", "fault"),
    [
        (Length(), "reward bounds nothing"),
        (Length(least=5, most=4), "no answer fits"),
        (Length(most=0), "no answer fits"),
        (Language(language="klingon"), "reward.language is 'klingon'; it must be one of af, ar"),
        (Repetition(n=0), "reward.n is 0"),
        (Repetition(most=1.0), "reward.most is 1"),
        (Citation(words=0), "reward.words is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(verifier: Any, fault: str):
    assert any(fault in sentence for sentence in verifier.faults("reward"))


@pytest.mark.parametrize(
    ("verifier", "info", "why"),
    [
        (Language(), {}, "no column 'language'"),
        (Language(), {"language": "klingon"}, "unknown language 'klingon'"),
        (Language(language="en"), {}, ""),
        (Citation(), {}, ""),
        (Citation(source="text"), {"text": ""}, "no text in column 'text'"),
        (Citation(source="text"), {"text": 5}, "no text in column 'text'"),
        (Citation(source="text"), {"text": ["One."]}, ""),
        (Length(most=3), {}, ""),
    ],
)
def test_a_question_that_lacks_what_the_check_needs_is_told(verifier: Any, info, why: str):
    lacks = verifier.lacks(Prompt(messages(("user", "Write.")), info=info))
    assert lacks.startswith(why)
    assert bool(lacks) == bool(why)


def test_where_no_question_can_be_judged_the_columns_that_there_are_are_named():
    records = [Prompt(messages(("user", "Write.")), info={"text": "One.", "level": 1})] * 3
    with pytest.raises(UserError) as refused:
        checkable(Citation(source="texts"), records, print)
    assert "3 × no text in column 'texts'" in str(refused.value)
    assert str(refused.value).endswith("Columns beside the prompt: text, level.")
