"""Words that people give, fit for plain columns; numbers and times as people say them."""

from __future__ import annotations

import unicodedata
from itertools import groupby

from backflip.errors import UserError

JOINERS = "\u200c\u200d"
"""Between letters of some scripts, and between the parts of an emoji."""
LONGEST_NAME = 63
"""Characters of a name that stands in addresses and commands."""
LONGEST_BYTES = 180
"""The same as the disk counts them."""


def clean(words: str, what: str, limit: int, *, lines: bool = False) -> str:
    """The words, or a UserError that says why not. ``lines``: whether they may have several."""
    if len(words) > limit:
        raise UserError(f"the {what} has {len(words)} characters; {limit} is the limit.")
    allowed = "\n\r\t" if lines else ""
    for letter in words:
        code = ord(letter)
        if (code < 32 and letter not in allowed) or 0xD800 <= code < 0xE000:
            raise UserError(f"the {what} contains a control character (code {code}); remove it.")
    return words


def in_a_name(letter: str) -> bool:
    """Whether this is a letter, mark, digit or emoji of any script: no sign that an address, a
    path or a command reads as its own, and no white space.
    """
    kind = unicodedata.category(letter)
    return kind[0] in "LMN" or kind in ("So", "Sk") or letter in JOINERS


def project_name(given: str) -> str | None:
    """A name as it is kept (NFC), of small letters where a script has two kinds; none for what can
    be no name.
    """
    name = unicodedata.normalize("NFC", given)
    fits = all(in_a_name(letter) or letter in "-_" for letter in name) and name == name.lower()
    begins = name[:1] != "" and in_a_name(name[0]) and unicodedata.category(name[0])[0] != "M"
    short = len(name) <= LONGEST_NAME and len(name.encode()) <= LONGEST_BYTES
    return name if fits and begins and short and name[0] not in JOINERS else None


def plain_name(title: str, signs: str = "-_") -> str:
    """A title with a dash for everything that no name holds; ``signs``: what else it may hold."""
    found = unicodedata.normalize("NFC", title)
    kept = groupby(found, lambda letter: in_a_name(letter) or letter in signs)
    return "".join("".join(part) if fits else "-" for fits, part in kept)


def cut(text: str, letters: int, size: int = LONGEST_BYTES) -> str:
    """At most so many characters and bytes of a text, and no letter without its marks."""
    while len(text) > letters or len(text.encode()) > size:
        end = len(text) - 1
        while end and (unicodedata.category(text[end])[0] == "M" or text[end] in JOINERS):
            end -= 1
        text = text[:end].rstrip(JOINERS)
    return text
