"""Characters that hide or rearrange what a rater reads are made visible.

A reply may hold null bytes, right-to-left overrides or letters of no width. Shown as they are they
could reverse a sentence, hide an instruction or break a page, so each appears by its name instead.
Joiners (U+200C, U+200D) stay: Persian words and emoji need them.
"""

from __future__ import annotations

import re

PICTURES = 0x2400
"""Where Unicode keeps a picture for each of the 32 control characters."""

NAMED = {
    0x061C: "ALM",
    0x200B: "ZWSP",
    0x200E: "LRM",
    0x200F: "RLM",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2060: "WJ",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
    0xFEFF: "BOM",
}
"""Marks of direction and of no width, by the names that Unicode gives them."""

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with every hidden character spelled out, and one kind of line ends."""
    return HIDDEN.sub(lambda found: _shown(found.group()), text.replace("\r\n", "\n"))


def one_for_one(text: str) -> str:
    """The same with one visible character for each hidden one, where offsets must stay true."""
    return HIDDEN.sub(lambda found: _shown(found.group())[:1].replace("⟦", "\ufffd"), text)


def _shown(character: str) -> str:
    code = ord(character)
    if code in (0x2028, 0x2029):
        return "\n"
    if code < 0x20:
        return chr(PICTURES + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF:  # half a character: it cannot even be encoded
        return "\ufffd"
    return f"⟦{NAMED.get(code, f'U+{code:04X}')}⟧"
