"""Text for plain columns: of sensible length, and without what a database refuses."""

from __future__ import annotations

from backflip.data.errors import UserError


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
