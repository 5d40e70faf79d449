"""Words, sentences and the language of a text in any script, without data to download."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from backflip.errors import UserError

__all__ = ["capital_words", "language", "sentences", "words"]

ABBREVIATIONS = frozenset(
    """adm apr assn aug ave bldg blvd brig bros capt cf cmdr co col comdr corp dec dept dr e.g eds
    esp est feb fig figs ft gen gov hon i.e inc jan jr lt ltd maj messrs mlle mme mr mrs ms mt nos
    nov oct op pp prof pvt rep repr rev sen sept sgt sr st ste tel viz vol vols vs""".split()
)
"""Words whose full stop ends no sentence, in lower case."""
_STOP = re.compile(r"""([.!?…؟۔।॥]+)["'’”»)\]}*_`]*(?=\s|$)|[。！？｡]+["'’”»」』）)]*""")
_BEFORE, _BEHIND = re.compile(r"\S*$"), re.compile(r"""\s*["'‘“«(\[{*_`]*(\S?)""")
_ITEM = re.compile(r"(?:\A|\n)[^\w\n]*\d{1,3}\.[^\w\n]*\Z")
_BETWEEN = re.compile(
    r"""[\s,:;@#$%&?!()\[\]{}<>"“”«»…]+|--+|\.{2,}|(?i:(?=['’](?:[smd]|ll|re|ve)\b)|(?=n['’]t\b))"""
)


def words(text: str) -> int:
    """Number of words, which are runs of letters and digits: ``don't`` has two, as in IFEval."""
    return len(re.findall(r"\w+", text))


def capital_words(text: str) -> int:
    """Number of words without a small letter: NASA, I, F-16; I'm is two words, of which one is."""
    return sum(word.isupper() for word in _BETWEEN.split(text))


def sentences(text: str) -> list[str]:
    """Sentences, by rules of full stops in place of Punkt's trained model (Kiss & Strunk, 2006).

    A full stop ends none behind an abbreviation, an initial or the number of an item of a list, and
    an ellipsis none before a small letter. Nor does a line end without a mark.
    """
    found, start = list[str](), 0
    for stop in _STOP.finditer(text):
        before = _BEFORE.search(text[max(start, stop.start() - 30) : stop.start()])
        behind = _BEHIND.match(text, stop.end())
        assert before is not None
        assert behind is not None
        item = _ITEM.search(text, max(0, stop.start() - 12), stop.end())
        if not item and _ends(before[0], stop[1], behind[1]):
            found.append(text[start : stop.end()].strip())
            start = stop.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def _ends(word: str, marks: str | None, following: str) -> bool:
    """Whether marks end a sentence between a word and a character, each empty where none is."""
    if not marks or not following or marks.strip(".…"):
        return True
    if marks != ".":
        return not following.islower()
    word = word.lstrip("\"'‘“«([{*_`-")
    if word.lower().rpartition("-")[2] in ABBREVIATIONS or re.fullmatch(r"[^\W\d_]", word):
        return False
    if re.fullmatch(r"(?:\w\.)+\w", word):  # U.S. and the like; after a.m. a sentence may begin
        return word.lower() in ("a.m", "p.m") and not following.islower()
    return True


def language(text: str) -> str | None:
    """Language of a text as an ISO 639-1 code (zh-cn, zh-tw), the same at every call.

    None where nothing tells: digits, emoji, scripts without a profile. Text in capitals is read in
    small letters. Source: langdetect 1.0.9, whose sampling is seeded here. Raises UserError where
    it is not installed.
    """
    langdetect = _langdetect()
    try:
        return langdetect.detect(text.lower() if text.isupper() else text)
    except langdetect.LangDetectException:
        return None


@cache
def _langdetect() -> Any:
    try:
        import langdetect
    except ImportError as error:
        raise UserError("languages are told by langdetect: pip install langdetect") from error
    langdetect.DetectorFactory.seed = 0
    return langdetect
