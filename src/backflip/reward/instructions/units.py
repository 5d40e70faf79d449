"""Words, sentences and the language of a text in any script, without data to download."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = [
    "LANGUAGES",
    "UNSPACED",
    "capital_words",
    "characters",
    "language",
    "sentences",
    "speaks",
    "words",
]

ABBREVIATIONS = frozenset(
    """adm apr assn aug ave bldg blvd brig bros capt cf cmdr co col comdr corp dec dept dr e.g eds
    esp est feb fig figs ft gen gov hon i.e inc jan jr lt ltd maj messrs mlle mme mr mrs ms mt nos
    nov oct op pp prof pvt rep repr rev sen sept sgt sr st ste tel viz vol vols vs""".split()  # noqa: SIM905
)
"""Words whose full stop ends no sentence, in lower case."""
LANGUAGES = frozenset(
    """af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr
    ne nl no pa pl pt ro ru sk sl so sq sv sw ta te th tl tr uk ur vi zh zh-cn zh-tw""".split()  # noqa: SIM905
)
"""Languages that can be told apart."""
_MARK = "\ue000"
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = rf"{_ALONE}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Ranges of characters whose scripts part words by nothing, inside of a regular expression."""
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}](?:[^\W{_ALONE}]|{_MARK})*")
_JOINER = "\u200d"
_PARTS = re.compile(
    rf"[\U0001f1e6-\U0001f1ff]{{2}}|.[\U0001f3fb-\U0001f3ff]?(?:{_JOINER}.[\U0001f3fb-\U0001f3ff]?)*",
    re.DOTALL,
)
_STOP = re.compile(
    r"""(?<![.!?…؟۔।॥])([.!?…؟۔।॥]+)["'’”»)\]}*_`]*(?=\s|$)|[。！？｡]+["'’”»」』）)]*"""
)
_BEFORE, _BEHIND = re.compile(r"\S*$"), re.compile(r"""\s*["'‘“«(\[{*_`]*(\S?)""")
_ITEM = re.compile(r"(?:\A|\n)[^\w\n]*\d{1,3}\.[^\w\n]*\Z")
_BETWEEN = re.compile(
    r"""[\s,:;@#$%&?!()\[\]{}<>"“”«»…]+|--+|\.{2,}|(?i:(?=['’](?:[smd]|ll|re|ve)\b)|(?=n['’]t\b))"""
)


def words(text: str) -> list[str]:
    """Words, which are runs of letters and digits: ``don't`` has two, as in IFEval.

    Signs above and below letters belong to them. Chinese and Japanese, which part words by nothing,
    count by characters; Thai, Lao, Khmer and Burmese are one word from blank to blank.
    """
    plain = "".join(_MARK if _sign(c) and c != "\u200b" else c for c in text)
    return [text[found.start() : found.end()] for found in _WORD.finditer(plain)]


def characters(text: str) -> int:
    """Characters as a reader sees them: an emoji of several parts, or a letter with signs, is one.

    By rules for signs, joiners, skin tones and flags, not by the whole of Unicode's annex 29.
    """
    return len(_PARTS.sub("x", "".join(c for c in text if not _sign(c) or c in _JOINER)))


@lru_cache(maxsize=4096)
def _sign(character: str) -> bool:
    """Whether it is no character of its own: a combining mark, or invisible."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")


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
    small letters. Short texts are often taken for another language. Source: langdetect 1.0.9, whose
    sampling is seeded here.
    """
    import langdetect

    langdetect.DetectorFactory.seed = 0
    try:
        return langdetect.detect(text.lower() if text.isupper() else text)
    except langdetect.LangDetectException:
        return None


def speaks(text: str, code: str) -> bool | None:
    """Whether a text is in a language; zh is any Chinese. None where nothing tells."""
    told = language(text)
    return None if told is None else told == code or told.startswith(f"{code}-")
