"""Instructions on words, letters and language, of any answer: keywords, case, length, commas."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from backflip.reward.instructions.units import capital_words, sentences, speaks, words

__all__ = ["WORDING"]


def _compared(count: int, relation: str, bound: int) -> bool:
    """Whether a count is ``less than`` a bound, or ``at least`` as large."""
    if relation not in ("less than", "at least"):
        raise ValueError(f"relation {relation!r} is neither 'less than' nor 'at least'")
    return count < bound if relation == "less than" else count >= bound


def _times(word: str, answer: str, *, whole: bool = False) -> int:
    """How often a word stands in an answer, in large or small letters, also inside of others."""
    pattern = re.escape(word.strip())
    return len(re.findall(rf"(?<!\w){pattern}(?!\w)" if whole else pattern, answer, re.IGNORECASE))


def _each(said: str | Sequence[str]) -> Sequence[str]:
    return [said] if isinstance(said, str) else said


def _existence(answer: str, *, keywords: str | Sequence[str]) -> bool:
    return all(_times(word, answer) for word in _each(keywords))


def _forbidden(answer: str, *, forbidden_words: str | Sequence[str]) -> bool:
    return not any(_times(word, answer, whole=True) for word in _each(forbidden_words))


def _frequency(answer: str, *, keyword: str, relation: str, frequency: int) -> bool:
    return _compared(_times(keyword, answer), relation, frequency)


def _letters(answer: str, *, letter: str, let_relation: str, let_frequency: int) -> bool:
    return _compared(answer.lower().count(letter.strip().lower()), let_relation, let_frequency)


def _capitals(answer: str, *, capital_relation: str, capital_frequency: int) -> bool:
    return _compared(capital_words(answer), capital_relation, capital_frequency)


def _words(answer: str, *, relation: str, num_words: int) -> bool:
    return _compared(len(words(answer)), relation, num_words)


def _sentences(answer: str, *, relation: str, num_sentences: int) -> bool:
    return _compared(len(sentences(answer)), relation, num_sentences)


def _in(answer: str, language: str) -> bool:
    """Whether an answer is in a language; as upstream has it, one that tells none follows."""
    return speaks(answer, language) is not False


WORDING: Mapping[str, Callable[..., bool]] = {
    "keywords:existence": _existence,
    "keywords:forbidden_words": _forbidden,
    "keywords:frequency": _frequency,
    "keywords:letter_frequency": _letters,
    "change_case:capital_word_frequency": _capitals,
    "change_case:english_capital": lambda answer: answer.isupper() and _in(answer, "en"),
    "change_case:english_lowercase": lambda answer: answer.islower() and _in(answer, "en"),
    "language:response_language": lambda answer, *, language: _in(answer, language),
    "length_constraints:number_words": _words,
    "length_constraints:number_sentences": _sentences,
    "punctuation:no_comma": lambda answer: "," not in answer,
}
"""Whether an answer follows an instruction, by its name; settings are keywords."""
