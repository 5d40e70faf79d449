"""Instructions on the form of an answer: paragraphs, lists, marks, beginnings and ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

__all__ = ["LAYOUT"]

VERDICTS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCE = re.compile(r"\A```(?:json)?|```\Z", re.IGNORECASE)
_BULLET = re.compile(r"^[^\S\n]*(?:\*[^*\n]|-(?!(?:[^\S\n]*-){2,}[^\S\n]*$))", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*\*\*([^*\n]+)\*\*\*|\*\*([^*\n]+)\*\*|\*([^*\n]+)\*")


def _parts(answer: str, mark: str) -> list[str]:
    """Texts between marks; a blank one at either end is none, one in the middle fails them all."""
    parts = [part.strip() for part in answer.split(mark)]
    return [part for part in parts if part] if all(parts[1:-1]) else []


def _paragraphs(answer: str, *, num_paragraphs: int) -> bool:
    return len(_parts(answer, "***")) == num_paragraphs


def _two_responses(answer: str) -> bool:
    parts = _parts(answer, "******")
    return len(parts) == len(set(parts)) == 2


def _first_word(answer: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """The nth of so many paragraphs, between blank lines, begins with a word."""
    parts = [part.strip() for part in answer.split("\n\n") if part.strip()]
    if len(parts) != num_paragraphs or not 1 <= nth_paragraph <= len(parts):
        return False
    found = re.match(r"""["']*([^\s.,?!'"]*)""", parts[nth_paragraph - 1])
    return found is not None and found[1].lower() == first_word.strip().lower()


def _placeholders(answer: str, *, num_placeholders: int) -> bool:
    return len(re.findall(r"\[[^\[\]\n]*\]", answer)) >= num_placeholders


def _postscript(answer: str, *, postscript_marker: str) -> bool:
    """P.S. may have a blank behind each full stop."""
    pieces = re.findall(r"[^.]+\.?|\.", postscript_marker.strip())
    return re.search(r"\s?".join(map(re.escape, pieces)), answer, re.IGNORECASE) is not None


def _bullets(answer: str, *, num_bullets: int) -> bool:
    """Lines that begin with * or -; a line of dashes divides and is none."""
    return len(_BULLET.findall(answer)) == num_bullets


def _highlights(answer: str, *, num_highlights: int) -> bool:
    found = ("".join(groups).strip() for groups in _HIGHLIGHT.findall(answer))
    return sum(map(bool, found)) >= num_highlights


def _sections(answer: str, *, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(re.escape(section_spliter.strip()) + r"\s?\d+", answer)) >= num_sections


def _title(answer: str) -> bool:
    titles = (line.partition("<<")[2].rpartition(">>")[0] for line in answer.split("\n"))
    return any(title.strip("<>").strip() for title in titles)


def _json(answer: str) -> bool:
    try:
        json.loads(_FENCE.sub("", answer.strip()).strip())
    except (ValueError, RecursionError):
        return False
    return True


def _repeats(answer: str, *, prompt_to_repeat: str) -> bool:
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends(answer: str, *, end_phrase: str) -> bool:
    answer, phrase = answer.strip().lower(), end_phrase.strip().lower()
    return answer.endswith(phrase) or answer.strip('"').endswith(phrase)


def _quoted(answer: str) -> bool:
    answer = answer.strip()
    return len(answer) > 1 and answer[0] == answer[-1] == '"'


LAYOUT: Mapping[str, Callable[..., bool]] = {
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda answer: any(v in answer for v in VERDICTS),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
}
"""Whether an answer follows an instruction, by its name; settings are keywords."""
